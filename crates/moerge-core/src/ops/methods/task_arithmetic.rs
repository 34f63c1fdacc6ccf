//! `task_arithmetic`: a base plus the weighted differences of the other models from it, `b + lambda sum w (x - b)`
//! (arXiv 2212.04089).

use super::{Kernel, sum_in_f64};

/// The parameters of `task_arithmetic`. The first input is the base.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskArithmetic {
    /// What the difference of each input after the base counts for.
    pub weights: Vec<f64>,
    /// What their sum counts for.
    pub lambda: f64,
    /// Whether the sum of the differences is divided by the sum of the weights.
    pub normalize: bool,
}

/// The factor of each difference.
pub(super) struct Differences(Vec<f64>);

impl TaskArithmetic {
    pub(super) fn kernel(&self) -> Differences {
        let total: f64 = self.weights.iter().sum();
        let divisor = if self.normalize && total != 0.0 { total } else { 1.0 };
        Differences(self.weights.iter().map(|w| self.lambda * w / divisor).collect())
    }
}

impl Kernel for Differences {
    fn merge(&self, inputs: &[Vec<f32>], _: u64, out: &mut [f32]) {
        let Some((base, others)) = inputs.split_first() else { return };
        sum_in_f64(out, |at, sums| {
            sums.iter_mut().zip(&base[at..]).for_each(|(sum, b)| *sum = f64::from(*b));
            for (factor, x) in self.0.iter().zip(others) {
                let difference = x[at..].iter().zip(&base[at..]).map(|(x, b)| f64::from(*x) - f64::from(*b));
                sums.iter_mut().zip(difference).for_each(|(sum, d)| *sum += factor * d);
            }
        });
    }
}
