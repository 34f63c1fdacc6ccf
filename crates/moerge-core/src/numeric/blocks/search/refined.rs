//! Scale of a group with levels on both sides of zero, by moving single weights to other levels (`make_q3_quants`).
//!
//! The largest weight gets the lowest level, the others follow. Then, up to five times over the group, each weight gets
//! the level that fits best with the scale of all others, if that makes the error smaller. Weights count by their squares.

use super::{
    super::{
        groups::{Groups, Side},
        lanes::Lanes,
        scalar::TINY,
        unit::{LANES, Unit, Work, compute},
    },
    symmetric::largest,
};

/// Passes over a group.
const PASSES: usize = 5;

/// Scales and levels of eight groups of weights `x`, levels from `-half` to `half - 1`, counted from 0. A group of zeros
/// has scale and levels of zero.
pub(in super::super) fn refined<const N: usize>(x: &Groups<N>, half: f32) -> (Side, Groups<N>) {
    compute(Refinement { x, half })
}

struct Refinement<'a, const N: usize> {
    x: &'a Groups<N>,
    half: f32,
}

impl<const N: usize> Work for Refinement<'_, N> {
    type Output = (Side, Groups<N>);

    #[inline(always)]
    fn run<U: Unit>(self, unit: U) -> (Side, Groups<N>) {
        let Self { x, half } = self;
        let zero = Lanes::splat(unit, 0.0);
        let (magnitude, max) = largest(unit, x);
        let all_zero = magnitude.less(Lanes::splat(unit, TINY));
        let inverse = Lanes::splat(unit, -half) / max;
        let (mut sum_lx, mut sum_l2) = (zero, zero);
        let mut levels = [[0.0; LANES]; N];
        for (x, out) in x.iter().zip(&mut levels) {
            let x = Lanes::load(unit, x);
            let level = (inverse * x).nearest_within(-half, half - 1.0);
            let w = x * x;
            sum_lx = sum_lx + w * x * level;
            sum_l2 = sum_l2 + w * level * level;
            *out = level.store();
        }
        for _ in 0..PASSES {
            let mut changed = false;
            for (x, out) in x.iter().zip(&mut levels) {
                let (x, level) = (Lanes::load(unit, x), Lanes::load(unit, out));
                let w = x * x;
                let others_lx = sum_lx - w * x * level;
                let others_l2 = sum_l2 - w * level * level;
                let moved = (x * others_l2 / others_lx).nearest_within(-half, half - 1.0);
                let lx = others_lx + w * x * moved;
                let l2 = others_l2 + w * moved * moved;
                let better = zero.less(others_lx)
                    & moved.equal(level).not()
                    & zero.less(l2)
                    & (sum_lx * sum_lx * l2).less(lx * lx * sum_l2);
                *out = better.select(moved, level).store();
                sum_lx = better.select(lx, sum_lx);
                sum_l2 = better.select(l2, sum_l2);
                changed |= better.any();
            }
            if !changed {
                break;
            }
        }
        let scale = zero.less(sum_l2).select(sum_lx / sum_l2, zero);
        for level in &mut levels {
            *level = all_zero.select(zero, Lanes::load(unit, level) + Lanes::splat(unit, half)).store();
        }
        (all_zero.select(zero, scale).store(), levels)
    }
}
