//! The merge methods, one file each. A method sees its inputs as rows of f32 and gives the merged rows.
//!
//! To add one: a file with its formula, its paper, its parameters and its test; a variant of [`Method`] and an arm in
//! each of its three matches.

mod linear;
mod slerp;
mod task_arithmetic;

pub use linear::Linear;
pub use slerp::Slerp;
pub use task_arithmetic::TaskArithmetic;

use super::evaluate::Inputs;
use crate::error::Result;

/// A merge method with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Weighted sum or mean.
    Linear(Linear),
    /// Spherical interpolation of two tensors.
    Slerp(Slerp),
    /// A base plus weighted differences from it.
    TaskArithmetic(TaskArithmetic),
}

/// A method that is ready for one tensor: it knows the statistics of the whole tensor that it needs.
pub(super) trait Kernel: Send + Sync {
    /// Merges the same elements of all inputs into `out`. `first` is the number of their first element in the tensor.
    fn merge(&self, inputs: &[Vec<f32>], first: u64, out: &mut [f32]);
}

impl Method {
    /// The name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear(_) => "linear",
            Self::Slerp(_) => "slerp",
            Self::TaskArithmetic(_) => "task_arithmetic",
        }
    }

    /// Every parameter that changes the result, for a plan's identity.
    pub(super) fn parameters(&self, add: &mut dyn FnMut(f64)) {
        match self {
            Self::Linear(Linear { weights, normalize }) => {
                weights.iter().for_each(|w| add(*w));
                add(f64::from(u8::from(*normalize)));
            }
            Self::Slerp(Slerp { t }) => add(*t),
            Self::TaskArithmetic(TaskArithmetic { weights, lambda, normalize }) => {
                weights.iter().for_each(|w| add(*w));
                add(*lambda);
                add(f64::from(u8::from(*normalize)));
            }
        }
    }

    /// Prepares the method for the tensors of `inputs`; may read all of them once.
    pub(super) fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        Ok(match self {
            Self::Linear(method) => Box::new(method.kernel()),
            Self::Slerp(method) => Box::new(method.kernel(inputs)?),
            Self::TaskArithmetic(method) => Box::new(method.kernel()),
        })
    }
}

/// Fills `out` with sums taken in f64. `add` is called for one block of elements after the other, with the number of its
/// first element in `out` and the block's sums, which start at 0.
fn sum_in_f64(out: &mut [f32], add: impl Fn(usize, &mut [f64])) {
    const BLOCK: usize = 512;
    let mut sums = [0.0; BLOCK];
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let sums = &mut sums[..out.len()];
        sums.fill(0.0);
        add(block * BLOCK, sums);
        out.iter_mut().zip(sums).for_each(|(x, sum)| *x = *sum as f32);
    }
}

#[cfg(test)]
mod tests;
