//! Scale and minimum of a group: `x ~ scale * level - offset`, levels from 0 (`make_qkx2_quants`, `make_qkx3_quants`).
//!
//! For a number of scales around `(max - min) / levels`, the weights are rounded, then scale and minimum that fit these
//! levels best follow by least squares, weighted. The best of all stays, and its minimum is where the next trial starts.

use super::super::{
    groups::{Groups, Side},
    lanes::Lanes,
    scalar::nearest,
    unit::{LANES, Unit, Work, compute},
};

/// Scale and offset of eight groups.
pub(in super::super) struct Affine {
    pub(in super::super) scale: Side,
    /// What is subtracted: no less than zero.
    pub(in super::super) offset: Side,
    /// The levels are those of `inverse * (x - origin)`.
    inverse: Side,
    origin: Side,
    constant: [bool; LANES],
    highest: f32,
}

/// Scales to try: `(max - min) / (highest level + first + n * step)` for n from 0 to `last`.
#[derive(Clone, Copy)]
pub(in super::super) struct Trials {
    pub(in super::super) first: f32,
    pub(in super::super) step: f32,
    pub(in super::super) last: u32,
}

impl Trials {
    /// The trials of every type with weights' importance.
    pub(in super::super) const WITH_IMPORTANCE: Self = Self { first: -0.9, step: 0.05, last: 36 };
}

impl Affine {
    /// The levels that the search gave to the weights `x` of the group in `lane`.
    pub(in super::super) fn levels(&self, lane: usize, x: &[f32], levels: &mut [u8]) {
        let (inverse, origin, highest) = (self.inverse[lane], self.origin[lane], self.highest as i32);
        for (x, level) in x.iter().zip(levels) {
            *level = nearest(inverse * (x - origin)).clamp(0, highest) as u8;
            if self.constant[lane] {
                *level = 0;
            }
        }
    }
}

/// Searches scales for weights `x` that count `weights`, levels from 0 to `highest`. `ABSOLUTE`: the error is the sum of
/// differences, not of their squares.
pub(in super::super) fn affine<const N: usize, const ABSOLUTE: bool>(
    x: &Groups<N>,
    weights: &Groups<N>,
    highest: f32,
    trials: Trials,
) -> Affine {
    compute(Search::<N, ABSOLUTE> { x, weights, highest, trials })
}

struct Search<'a, const N: usize, const ABSOLUTE: bool> {
    x: &'a Groups<N>,
    weights: &'a Groups<N>,
    highest: f32,
    trials: Trials,
}

impl<const N: usize, const ABSOLUTE: bool> Work for Search<'_, N, ABSOLUTE> {
    type Output = Affine;

    #[inline(always)]
    fn run<U: Unit>(self, unit: U) -> Affine {
        let Self { x, weights, highest, trials } = self;
        let (zero, one) = (Lanes::splat(unit, 0.0), Lanes::splat(unit, 1.0));
        let start = Lanes::load(unit, &x[0]);
        let (mut min, mut max, mut sum_w, mut sum_x) = (start, start, zero, zero);
        for (x, w) in x.iter().zip(weights) {
            let (x, w) = (Lanes::load(unit, x), Lanes::load(unit, w));
            min = min.or_smaller(x);
            max = max.or_larger(x);
            sum_w = sum_w + w;
            sum_x = sum_x + w * x;
        }
        min = min.or_smaller(zero);
        let (constant, start) = (max.equal(min), min);

        let mut inverse = Lanes::splat(unit, highest) / (max - min);
        let mut origin = min;
        let mut scale = one / inverse;
        let mut best = zero;
        for (x, w) in x.iter().zip(weights) {
            let (x, w) = (Lanes::load(unit, x), Lanes::load(unit, w));
            let level = (inverse * (x - min)).nearest_within(0.0, highest);
            best = best + w * error::<U, ABSOLUTE>(scale * level + min - x);
        }

        let mut levels = [[0.0; LANES]; N];
        for trial in 0..=trials.last {
            let tried = Lanes::splat(unit, trials.first + trials.step * trial as f32 + highest) / (max - min);
            let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
            for ((x, w), out) in x.iter().zip(weights).zip(&mut levels) {
                let (x, w) = (Lanes::load(unit, x), Lanes::load(unit, w));
                let level = (tried * (x - min)).nearest_within(0.0, highest);
                *out = level.store();
                let wl = w * level;
                sum_l = sum_l + wl;
                sum_l2 = sum_l2 + wl * level;
                sum_xl = sum_xl + wl * x;
            }
            let determinant = sum_w * sum_l2 - sum_l * sum_l;
            let solvable = zero.less(determinant);
            let fitted_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
            let positive = zero.less(fitted_min);
            let fitted_scale = positive.select(sum_xl / sum_l2, (sum_w * sum_xl - sum_x * sum_l) / determinant);
            let fitted_min = positive.select(zero, fitted_min);
            let mut sum = zero;
            for ((x, w), level) in x.iter().zip(weights).zip(&levels) {
                let (x, w, level) = (Lanes::load(unit, x), Lanes::load(unit, w), Lanes::load(unit, level));
                sum = sum + w * error::<U, ABSOLUTE>(fitted_scale * level + fitted_min - x);
            }
            let better = solvable & sum.less(best);
            best = better.select(sum, best);
            inverse = better.select(tried, inverse);
            origin = better.select(min, origin);
            scale = better.select(fitted_scale, scale);
            min = better.select(fitted_min, min);
        }
        let (scale, min) = (constant.select(zero, scale), constant.select(start, min));
        Affine {
            scale: scale.store(),
            offset: (-min).store(),
            inverse: inverse.store(),
            origin: origin.store(),
            constant: constant.holds(),
            highest,
        }
    }
}

/// What a weight's difference from itself counts.
#[inline(always)]
fn error<U: Unit, const ABSOLUTE: bool>(difference: Lanes<U>) -> Lanes<U> {
    if ABSOLUTE { difference.abs() } else { difference * difference }
}
