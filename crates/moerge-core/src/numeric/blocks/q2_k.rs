//! q2_K: 256 weights in 84 bytes, 16 groups of 16, `w = d * s * q - dmin * t` with 4 levels `q`.
//!
//! | bytes | what |
//! |---|---|
//! | 0..16 | per group: the scale `s` in the low 4 bits, the minimum `t` in the high ones |
//! | 16..80 | `q`, 2 bits each: of every 128 weights, byte i has i, i + 32, i + 64, i + 96 |
//! | 80..82 | `d`, f16 |
//! | 82..84 | `dmin`, f16 |
//!
//! Every group's scale and minimum are searched, then rounded to 4 bits, then its weights are rounded again. In the search
//! a weight counts `|w|` and errors are not squared; with importance it counts `importance * sqrt(s + w^2)`, `s` being the
//! mean square of the superblock, and errors are squared.
//!
//! ggml 0.25.3: `quantize_row_q2_K_ref`, `quantize_row_q2_K_impl`, `dequantize_row_q2_K`.

use super::{
    groups::{map, side_by_side, sum_of_squares, sums, weighted},
    levels::{SUPERBLOCK, pack_quarters, round},
    scalar::{from_f16, nearest, to_f16},
    search::{Trials, affine, scales},
    unit::LANES,
};

pub(super) const BYTES: usize = 84;
/// Weights of a group.
const GROUP: usize = 16;
const GROUPS: usize = SUPERBLOCK / GROUP;
const TRIALS: Trials = Trials { first: -0.5, step: 0.1, last: 15 };

pub(super) fn encode(x: &[f32; SUPERBLOCK], importance: Option<&[f32; SUPERBLOCK]>, out: &mut [u8; BYTES]) {
    let mut levels = [0; SUPERBLOCK];
    let (mut scale, mut offset, mut sum_w) = ([0.0; GROUPS], [0.0; GROUPS], [0.0; GROUPS]);
    let variance = if importance.is_some() { sum_of_squares(x) / SUPERBLOCK as f32 } else { 0.0 };
    let found = [0, LANES].map(|first| {
        let groups = side_by_side::<GROUP>(&x[first * GROUP..]);
        let group = if let Some(importance) = importance {
            let weights = weighted(&groups, &importance[first * GROUP..], &[variance; LANES]);
            sum_w[first..][..LANES].copy_from_slice(&sums(&weights));
            affine::<GROUP, false>(&groups, &weights, 3.0, Trials::WITH_IMPORTANCE)
        } else {
            affine::<GROUP, true>(&groups, &map(&groups, &[0.0; LANES], |x, _| x.abs()), 3.0, TRIALS)
        };
        scale[first..][..LANES].copy_from_slice(&group.scale);
        offset[first..][..LANES].copy_from_slice(&group.offset);
        group
    });

    let (d, s, dmin, t) = if importance.is_some() {
        let ((d, s), (dmin, t)) = (scales(&scale, &sum_w, 15), scales(&offset, &sum_w, 15));
        (d, s, dmin, t)
    } else {
        let ((d, s), (dmin, t)) = (in_15_steps(&scale), in_15_steps(&offset));
        (d, s, dmin, t)
    };
    let (d, dmin) = (to_f16(d), to_f16(dmin));
    for (group, (x, levels)) in x.as_chunks::<GROUP>().0.iter().zip(levels.as_chunks_mut::<GROUP>().0).enumerate() {
        out[group] = s[group] | t[group] << 4;
        let scale = from_f16(d) * f32::from(out[group] & 0x0f);
        let offset = from_f16(dmin) * f32::from(out[group] >> 4);
        if !round(x, scale, offset, (0, 3), levels) {
            found[group / LANES].levels(group % LANES, x, levels);
        }
    }
    pack_quarters(&levels, &mut out[16..80]);
    out[80..82].copy_from_slice(&d);
    out[82..84].copy_from_slice(&dmin);
}

/// A scale that makes the largest number 15, and all numbers with it; zeros if none is above zero.
fn in_15_steps(x: &[f32; GROUPS]) -> (f32, [u8; GROUPS]) {
    let max = x.iter().fold(0.0, |max, x| if *x > max { *x } else { max });
    if max > 0.0 { (max / 15.0, x.map(|x| nearest(15.0 / max * x) as u8)) } else { (0.0, [0; GROUPS]) }
}

#[inline(always)]
pub(super) fn decode(block: &[u8; BYTES], out: &mut [f32; SUPERBLOCK]) {
    let (d, dmin) = (from_f16([block[80], block[81]]), from_f16([block[82], block[83]]));
    for (group, out) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let (scale, offset) = (d * f32::from(block[group] & 0x0f), dmin * f32::from(block[group] >> 4));
        let (first, shift) = (16 + group / 8 * 32 + group % 2 * 16, group / 2 % 4 * 2);
        for (x, q) in out.iter_mut().zip(&block[first..first + GROUP]) {
            *x = scale * f32::from(q >> shift & 3) - offset;
        }
    }
}
