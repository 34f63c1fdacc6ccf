//! Adding up differences: all of them, or at each element those whose sign is elected (arXiv 2306.01708).

use std::ops::Range;

use super::super::{TaskArithmetic, task_arithmetic::NO_WEIGHT};
use crate::numeric::simd::vectorised;

/// Elements that are added up at once.
pub(in super::super) const BLOCK: usize = 512;

/// `out` becomes `base + lambda` times the sum of `vectors`, each times its weight and its scale.
///
/// With `elect_signs` only those count at an element whose weighted value has the sign of the sum of all, 0 counting as
/// positive. Where it normalises, the sum is divided by the weights of those that count; scales do not.
pub(in super::super) fn add_up(
    base: &[f32],
    vectors: &[Vec<f32>],
    scales: &[f64],
    sum: &TaskArithmetic,
    elect_signs: bool,
    out: &mut [f32],
) {
    let (lambda, normalize) = (sum.lambda, sum.normalize);
    let total: f64 = sum.weights.iter().sum();
    let factors: Vec<f64> = sum.weights.iter().zip(scales).map(|(weight, scale)| weight * scale).collect();
    // mergekit compares with 0 in float32 after an election, where sums that cancel are exactly 0.
    let size: f64 = sum.weights.iter().map(|weight| weight.abs()).sum();
    let least = if elect_signs { NO_WEIGHT * size } else { NO_WEIGHT };
    let (mut sums, mut divisors) = ([0.0; BLOCK], [0.0; BLOCK]);
    vectorised(
        #[inline(always)]
        || {
            for (block, out) in out.chunks_mut(BLOCK).enumerate() {
                let block = block * BLOCK..block * BLOCK + out.len();
                let (sums, divisors) = (&mut sums[..out.len()], &mut divisors[..out.len()]);
                if elect_signs {
                    let election = Election { votes: &factors, factors: &factors, weights: &sum.weights };
                    election.add_up(vectors, block.clone(), sums, divisors);
                } else {
                    weighted_sum(vectors, &factors, block.clone(), sums);
                    divisors.fill(total);
                }
                for (((out, base), sum_here), divisor) in out.iter_mut().zip(&base[block]).zip(sums).zip(divisors) {
                    // No branches, which would keep this from being vectorised.
                    let counts = normalize & (*divisor != 0.0) & (divisor.abs() >= least);
                    let divisor = if counts { *divisor } else { 1.0 };
                    *out = (f64::from(*base) + lambda * (*sum_here / divisor)) as f32;
                }
            }
        },
    );
}

#[inline(always)]
fn weighted_sum(vectors: &[Vec<f32>], factors: &[f64], block: Range<usize>, sums: &mut [f64]) {
    sums.fill(0.0);
    for (vector, factor) in vectors.iter().zip(factors) {
        sums.iter_mut().zip(&vector[block.clone()]).for_each(|(sum, d)| *sum += factor * f64::from(*d));
    }
}

/// An election of signs. Each slice has one number per vector.
pub(in super::super) struct Election<'a> {
    /// The vector's elements count for the sign times these.
    pub votes: &'a [f64],
    /// They are added up times these.
    pub factors: &'a [f64],
    /// What is added to the divisor for them.
    pub weights: &'a [f64],
}

impl Election<'_> {
    /// Elects the sign of the sum of votes at each element of `block`, which is at most [`BLOCK`] long; 0 counts as
    /// positive. `sums` becomes the sum of those that vote for it, `divisors` the sum of their weights.
    #[inline(always)]
    pub fn add_up(&self, vectors: &[Vec<f32>], block: Range<usize>, sums: &mut [f64], divisors: &mut [f64]) {
        let mut totals = [0.0; BLOCK];
        let totals = &mut totals[..block.len()];
        weighted_sum(vectors, self.votes, block.clone(), totals);
        sums.fill(0.0);
        divisors.fill(0.0);
        let parts = self.votes.iter().zip(self.factors).zip(self.weights);
        for (vector, ((vote, factor), weight)) in vectors.iter().zip(parts) {
            let elements = vector[block.clone()].iter().zip(&*totals);
            for ((d, total), (sum, divisor)) in elements.zip(sums.iter_mut().zip(divisors.iter_mut())) {
                let d = f64::from(*d);
                let agrees = if *total >= 0.0 { vote * d > 0.0 } else { vote * d < 0.0 };
                // Products rather than branches: NaN stays NaN, so that it is noticed.
                let counts = if agrees { 1.0 } else { 0.0 };
                *sum += factor * d * counts;
                *divisor += weight * counts;
            }
        }
    }
}
