//! `model_stock`: between the base and the mean of models that were fine-tuned from it, at the point that the angles
//! between their differences suggest (arXiv 2403.19522).
//!
//! With `c` the mean cosine between the `N` differences from the base, pair by pair, and `t = N c / (1 + (N - 1) c)`,
//! the result is `t mean(x) + (1 - t) b`; the base where the denominator is nearly 0.

use super::check;
use crate::{error::Result, ops::Identity};

/// The parameters of `model_stock`. The first input is the base; at least two models follow.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelStock {
    /// Whether each row (the last dimension) has its own `t`, rather than the whole tensor one. Default: false.
    pub filter_wise: bool,
}

impl ModelStock {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { filter_wise } = self;
        id.flag(*filter_wise);
    }

    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        check::inputs("model_stock", check::Count::AtLeast(3), inputs)
    }
}
