//! Scale of a group with levels on both sides of zero: `x ~ scale * level` (`make_qx_quants` with `rmse_type` 1).
//!
//! The weight that is largest by magnitude gets the lowest level, or nearly: for 19 scales the weights are rounded, and
//! the scale that fits these levels best follows by least squares, weighted. The best of all stays.

use super::super::{
    groups::{Groups, Side},
    lanes::Lanes,
    scalar::{TINY, nearest},
    unit::{LANES, Unit, Work, compute},
};

/// Scales to try beside the first: `max / (half + trial / 10)`.
const TRIALS: [i8; 18] = [-9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/// Scales of eight groups.
pub(in super::super) struct Symmetric {
    pub(in super::super) scale: Side,
    /// The levels are those of `inverse * x`.
    inverse: Side,
    all_zero: [bool; LANES],
    half: f32,
}

impl Symmetric {
    /// The levels that the search gave to the weights `x` of the group in `lane`, counted from 0. A group of zeros has
    /// zeros.
    pub(in super::super) fn levels(&self, lane: usize, x: &[f32], levels: &mut [u8]) {
        let (inverse, half) = (self.inverse[lane], self.half as i32);
        for (x, level) in x.iter().zip(levels) {
            *level = (nearest(inverse * x).clamp(-half, half - 1) + half) as u8;
            if self.all_zero[lane] {
                *level = 0;
            }
        }
    }
}

/// Searches scales for weights `x` that count `weights`, levels from `-half` to `half - 1`.
pub(in super::super) fn symmetric<const N: usize>(x: &Groups<N>, weights: &Groups<N>, half: f32) -> Symmetric {
    compute(Search { x, weights, half })
}

struct Search<'a, const N: usize> {
    x: &'a Groups<N>,
    weights: &'a Groups<N>,
    half: f32,
}

impl<const N: usize> Work for Search<'_, N> {
    type Output = Symmetric;

    #[inline(always)]
    fn run<U: Unit>(self, unit: U) -> Symmetric {
        let Self { x, weights, half } = self;
        let zero = Lanes::splat(unit, 0.0);
        let (largest, max) = largest(unit, x);
        let all_zero = largest.less(Lanes::splat(unit, TINY));
        let mut inverse = Lanes::splat(unit, -half) / max;
        let (sum_lx, sum_l2) = sums(unit, x, weights, inverse, half);
        let mut scale = sum_l2.equal(zero).select(zero, sum_lx / sum_l2);
        let mut best = scale * sum_lx;
        for trial in TRIALS {
            let tried = Lanes::splat(unit, -(half + 0.1 * f32::from(trial))) / max;
            let (sum_lx, sum_l2) = sums(unit, x, weights, tried, half);
            let better = zero.less(sum_l2) & (best * sum_l2).less(sum_lx * sum_lx);
            let fitted = sum_lx / sum_l2;
            scale = better.select(fitted, scale);
            best = better.select(fitted * sum_lx, best);
            inverse = better.select(tried, inverse);
        }
        let scale = all_zero.select(zero, scale);
        Symmetric { scale: scale.store(), inverse: inverse.store(), all_zero: all_zero.holds(), half }
    }
}

/// Weighted sums of levels times weights and of squared levels.
#[inline(always)]
fn sums<U: Unit, const N: usize>(
    unit: U,
    x: &Groups<N>,
    weights: &Groups<N>,
    inverse: Lanes<U>,
    half: f32,
) -> (Lanes<U>, Lanes<U>) {
    let (mut sum_lx, mut sum_l2) = (Lanes::splat(unit, 0.0), Lanes::splat(unit, 0.0));
    for (x, w) in x.iter().zip(weights) {
        let (x, w) = (Lanes::load(unit, x), Lanes::load(unit, w));
        let level = (inverse * x).nearest_within(-half, half - 1.0);
        sum_lx = sum_lx + w * x * level;
        sum_l2 = sum_l2 + w * level * level;
    }
    (sum_lx, sum_l2)
}

/// The largest magnitude of each group, and the first weight that has it.
#[inline(always)]
pub(super) fn largest<U: Unit, const N: usize>(unit: U, x: &Groups<N>) -> (Lanes<U>, Lanes<U>) {
    let (mut largest, mut max) = (Lanes::splat(unit, 0.0), Lanes::splat(unit, 0.0));
    for x in x {
        let x = Lanes::load(unit, x);
        let magnitude = x.abs();
        let larger = largest.less(magnitude);
        largest = larger.select(magnitude, largest);
        max = larger.select(x, max);
    }
    (largest, max)
}
