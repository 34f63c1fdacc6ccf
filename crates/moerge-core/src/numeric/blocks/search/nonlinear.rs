//! Scale of a group whose 16 levels lie closer near zero: `x ~ scale * VALUES[level]` (`quantize_row_iq4_nl_impl`).
//!
//! The weight that is largest by magnitude gets the lowest value, or nearly: for 16 scales the weights are rounded, and
//! the scale that fits best follows by least squares, weighted.

use super::{
    super::{
        groups::{Groups, Side},
        lanes::Lanes,
        scalar::TINY,
        unit::{Unit, Work, compute},
    },
    symmetric::largest,
};

/// What the levels stand for (`kvalues_iq4nl`).
pub(in super::super) const VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Scales to try on either side of the first.
const TRIALS: i8 = 7;

/// Levels whose values are nearest to `inverse * x`, the upper one halfway between, the highest for NaN.
///
/// ggml searches by halves and compares the two distances; they are exact wherever they are nearly equal.
pub(in super::super) fn levels<const N: usize>(x: &[f32; N], inverse: f32) -> [u8; N] {
    let mut levels = [0; N];
    for pair in VALUES.windows(2) {
        let middle = middle(pair[0], pair[1]);
        for (x, level) in x.iter().zip(&mut levels) {
            // The lower level only if `inverse * x` compares as less.
            let below = inverse * x < middle;
            *level += u8::from(!below);
        }
    }
    levels
}

#[inline(always)]
fn middle(a: i8, b: i8) -> f32 {
    (f32::from(a) + f32::from(b)) / 2.0
}

/// The value nearest to each number.
#[inline(always)]
fn nearest_values<U: Unit>(unit: U, x: Lanes<U>) -> Lanes<U> {
    let mut value = Lanes::splat(unit, f32::from(VALUES[0]));
    for pair in VALUES.windows(2) {
        let below = x.less(Lanes::splat(unit, middle(pair[0], pair[1])));
        value = below.select(value, Lanes::splat(unit, f32::from(pair[1])));
    }
    value
}

/// Scales of eight groups of weights `x` that count `weights`; zero for a group of zeros.
pub(in super::super) fn nonlinear<const N: usize>(x: &Groups<N>, weights: &Groups<N>) -> Side {
    compute(Search { x, weights })
}

struct Search<'a, const N: usize> {
    x: &'a Groups<N>,
    weights: &'a Groups<N>,
}

impl<const N: usize> Work for Search<'_, N> {
    type Output = Side;

    #[inline(always)]
    fn run<U: Unit>(self, unit: U) -> Side {
        let Self { x, weights } = self;
        let zero = Lanes::splat(unit, 0.0);
        let (magnitude, max) = largest(unit, x);
        let all_zero = magnitude.less(Lanes::splat(unit, TINY));
        let lowest = f32::from(VALUES[0]);
        // The first scale has the largest weight at minus the lowest value.
        let (sum_qx, sum_q2) = sums(unit, x, weights, Lanes::splat(unit, 1.0) / (-max / Lanes::splat(unit, lowest)));
        let mut scale = zero.less(sum_q2).select(sum_qx / sum_q2, zero);
        let mut best = scale * sum_qx;
        for trial in -TRIALS..=TRIALS {
            let (sum_qx, sum_q2) = sums(unit, x, weights, Lanes::splat(unit, f32::from(trial) + lowest) / max);
            let better = zero.less(sum_q2) & (best * sum_q2).less(sum_qx * sum_qx);
            let fitted = sum_qx / sum_q2;
            scale = better.select(fitted, scale);
            best = better.select(fitted * sum_qx, best);
        }
        all_zero.select(zero, scale).store()
    }
}

/// Weighted sums of values times weights and of squared values.
#[inline(always)]
fn sums<U: Unit, const N: usize>(
    unit: U,
    x: &Groups<N>,
    weights: &Groups<N>,
    inverse: Lanes<U>,
) -> (Lanes<U>, Lanes<U>) {
    let (mut sum_qx, mut sum_q2) = (Lanes::splat(unit, 0.0), Lanes::splat(unit, 0.0));
    for (x, w) in x.iter().zip(weights) {
        let x = Lanes::load(unit, x);
        let q = nearest_values(unit, inverse * x);
        let wq = Lanes::load(unit, w) * q;
        sum_qx = sum_qx + wq * x;
        sum_q2 = sum_q2 + wq * q;
    }
    (sum_qx, sum_q2)
}
