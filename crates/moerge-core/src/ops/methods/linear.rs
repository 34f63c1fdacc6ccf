//! `linear`: the weighted mean `sum w x / sum w`, or without `normalize` the sum `sum w x` ("model soups",
//! arXiv 2203.05482).

use super::{check, combination::WeightedSum};
use crate::{error::Result, ops::Identity};

/// The parameters of `linear`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Weight of each input; no default.
    pub weights: Vec<f64>,
    /// Whether the sum is divided by the sum of the weights, which then must not be 0. Default: true.
    pub normalize: bool,
}

impl Linear {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { weights, normalize } = self;
        id.floats(weights).flag(*normalize);
    }

    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        check::inputs("linear", check::Count::AtLeast(1), inputs, false)?;
        check::values("linear", "weight", &self.weights, inputs)?;
        if self.normalize { check::sum_not_zero("linear", &self.weights, "normalize") } else { Ok(()) }
    }

    pub(super) fn kernel(&self) -> WeightedSum {
        let divisor = if self.normalize { self.weights.iter().sum() } else { 1.0 };
        WeightedSum(self.weights.iter().map(|w| w / divisor).collect())
    }
}
