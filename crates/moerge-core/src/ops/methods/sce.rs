//! `sce` (select, calculate, erase): differences weighted by their squares, at the elements where the models disagree
//! most (arXiv 2408.07990).
//!
//! With the differences `d = x - b`: of the elements whose variance over the models is not 0, the fraction
//! `select_topk` with the largest variance is kept, the others become 0. The weight of a model is the mean of its `d^2`
//! over the sum of these means. At each element the sign of `sum d` is elected, 0 counting as positive; the weighted
//! mean of the differences of that sign is added to the base.

use super::check;
use crate::{error::Result, ops::Identity};

/// The parameters of `sce`. The first input is the base.
#[derive(Debug, Clone, PartialEq)]
pub struct Sce {
    /// Fraction of the elements of non-zero variance that are kept. 1 keeps all, those without variance included. With
    /// one model besides the base no element has variance, so anything below 1 gives the base. Default: 1.
    pub select_topk: f64,
}

impl Sce {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { select_topk } = self;
        id.float(*select_topk);
    }

    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        check::inputs("sce", check::Count::AtLeast(1), inputs)?;
        check::fraction("sce", "select_topk", self.select_topk)
    }
}
