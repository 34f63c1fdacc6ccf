//! Sums of the inputs, each times a factor that is the same for all elements: what many methods come down to once they
//! know their factors.

use super::{Kernel, Place};

/// `sum f x`.
pub(super) struct WeightedSum(pub Vec<f64>);

/// `b + sum f (x - b)` with the base `b` as the first input.
pub(super) struct Differences(pub Vec<f64>);

impl Kernel for WeightedSum {
    fn merge(&self, inputs: &mut [Vec<f32>], _: Place, out: &mut [f32]) {
        sum_in_f64(out, |at, sums| {
            for (factor, input) in self.0.iter().zip(&*inputs) {
                sums.iter_mut().zip(&input[at..]).for_each(|(sum, x)| *sum += factor * f64::from(*x));
            }
        });
    }
}

impl Kernel for Differences {
    fn merge(&self, inputs: &mut [Vec<f32>], _: Place, out: &mut [f32]) {
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

/// Fills `out` with sums taken in f64. `add` is called for one block of elements after the other, with the number of its
/// first element in `out` and the block's sums, which start at 0.
pub(super) fn sum_in_f64(out: &mut [f32], add: impl Fn(usize, &mut [f64])) {
    const BLOCK: usize = 512;
    let mut sums = [0.0; BLOCK];
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let sums = &mut sums[..out.len()];
        sums.fill(0.0);
        add(block * BLOCK, sums);
        out.iter_mut().zip(sums).for_each(|(x, sum)| *x = *sum as f32);
    }
}
