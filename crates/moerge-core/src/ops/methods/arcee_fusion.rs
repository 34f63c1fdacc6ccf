//! `arcee_fusion`: the base, with a model's elements where its changes are outliers (<https://arcee.ai>).
//!
//! An element's importance is `|x - b|` times the Kullback-Leibler divergence of the softmax of its row of the model
//! from that of the base. The model's elements are taken where the importance is at least the median plus 1.5
//! interquartile ranges over the whole tensor. mergekit estimates the quartiles of large tensors from random elements;
//! ours are exact.

use super::check;
use crate::{error::Result, ops::Identity};

/// `arcee_fusion` has no parameters. The inputs are the base and one model.
#[derive(Debug, Clone, PartialEq)]
pub struct ArceeFusion;

impl ArceeFusion {
    pub(super) fn identify(&self, _: &mut Identity) {
        let Self = self;
    }

    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        check::inputs("arcee_fusion", check::Count::Exactly(2), inputs)
    }
}
