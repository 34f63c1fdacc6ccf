//! The scale of scales: a superblock's scales, or minima, as `scale * level` with levels from 0 (`make_qp_quants`).
//!
//! Nine scales around `max / levels` are tried, then single levels are moved where that makes the weighted error smaller.
//! There are 8 or 16 numbers per superblock, one sum depends on another: this is not worth lanes.

use super::super::scalar::{TINY, nearest};

/// Passes over the numbers.
const PASSES: usize = 5;

/// The scale of `x` with `weights`, and the level of each, at most `highest`.
pub(in super::super) fn scales<const N: usize>(x: &[f32; N], weights: &[f32; N], highest: u8) -> (f32, [u8; N]) {
    let mut max = 0.0;
    for x in x {
        max = if max > *x { max } else { *x };
    }
    if max < TINY {
        return (0.0, [0; N]);
    }
    let most = i32::from(highest);
    let highest = f32::from(highest);
    let mut inverse = highest / max;
    // The first trial keeps its levels in bytes and does not bound them.
    let mut best = error(x, weights, 1.0 / inverse, |x| f32::from(nearest(inverse * x) as u8));
    for trial in (-4i8..=4).filter(|trial| *trial != 0) {
        let tried = (0.1 * f32::from(trial) + highest) / max;
        let sum = error(x, weights, 1.0 / tried, |x| nearest(tried * x).min(most) as f32);
        if sum < best {
            (best, inverse) = (sum, tried);
        }
    }

    let mut levels = [0; N];
    let (mut sum_lx, mut sum_l2) = (0.0, 0.0);
    for ((x, w), level) in x.iter().zip(weights).zip(&mut levels) {
        let l = nearest(inverse * x).min(most);
        *level = l as u8;
        sum_lx += w * x * l as f32;
        sum_l2 += w * l as f32 * l as f32;
    }
    for _ in 0..PASSES {
        let mut changed = false;
        for ((x, w), level) in x.iter().zip(weights).zip(&mut levels) {
            let l = f32::from(*level);
            let (mut lx, mut l2) = (sum_lx - w * x * l, sum_l2 - w * l * l);
            if !(lx > 0.0 && l2 > 0.0) {
                continue;
            }
            let moved = nearest(x * l2 / lx).min(most);
            if moved == i32::from(*level) {
                continue;
            }
            lx += w * x * moved as f32;
            l2 += w * moved as f32 * moved as f32;
            if lx * lx * sum_l2 > sum_lx * sum_lx * l2 {
                (*level, sum_lx, sum_l2) = (moved as u8, lx, l2);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    (if sum_l2 > 0.0 { sum_lx / sum_l2 } else { 0.0 }, levels)
}

/// The weighted sum of squared errors.
fn error<const N: usize>(x: &[f32; N], weights: &[f32; N], scale: f32, level: impl Fn(f32) -> f32) -> f32 {
    x.iter().zip(weights).fold(0.0, |sum, (x, w)| {
        let difference = x - scale * level(*x);
        sum + w * difference * difference
    })
}
