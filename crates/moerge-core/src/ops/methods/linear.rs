//! `linear`: the weighted mean `sum w x / sum w`, or without `normalize` the sum `sum w x` ("model soups",
//! arXiv 2203.05482).

use super::{Kernel, sum_in_f64};

/// The parameters of `linear`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// What each input counts for.
    pub weights: Vec<f64>,
    /// Whether the sum is divided by the sum of the weights.
    pub normalize: bool,
}

/// The factor of each input.
pub(super) struct WeightedSum(Vec<f64>);

impl Linear {
    pub(super) fn kernel(&self) -> WeightedSum {
        let total: f64 = self.weights.iter().sum();
        // Where the weights cancel out there is nothing to divide by: mergekit takes 1, and so do we.
        let divisor = if self.normalize && total != 0.0 { total } else { 1.0 };
        WeightedSum(self.weights.iter().map(|w| w / divisor).collect())
    }
}

impl Kernel for WeightedSum {
    fn merge(&self, inputs: &[Vec<f32>], _: u64, out: &mut [f32]) {
        sum_in_f64(out, |at, sums| {
            for (factor, input) in self.0.iter().zip(inputs) {
                sums.iter_mut().zip(&input[at..]).for_each(|(sum, x)| *sum += factor * f64::from(*x));
            }
        });
    }
}
