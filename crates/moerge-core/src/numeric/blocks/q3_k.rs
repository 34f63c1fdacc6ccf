//! q3_K: 256 weights in 110 bytes, 16 groups of 16, `w = d * (s - 32) * (q - 4)` with 8 levels `q`.
//!
//! | bytes | what |
//! |---|---|
//! | 0..32 | the third bit of `q`: bit b of byte i is that of weight i + 32 b |
//! | 32..96 | the low 2 bits of `q`: of every 128 weights, byte i has i, i + 32, i + 64, i + 96 |
//! | 96..108 | `s`, 6 bits: the low 4 of group g in byte g % 8, half g / 8; the high 2 in byte 8 + g % 4, from bit 2 (g / 4) |
//! | 108..110 | `d`, f16 |
//!
//! Without importance a group's scale comes from [`refined`], weights counting by their squares. With importance it is
//! searched ([`symmetric`]), as is the scale of scales; a weight counts `importance * sqrt(s + w^2)`, `s` being twice the
//! mean square of the superblock.
//!
//! ggml 0.25.3: `quantize_row_q3_K_ref`, `quantize_row_q3_K_impl`, `dequantize_row_q3_K`.

use super::{
    groups::{side_by_side, sum_of_squares, sums, weighted},
    levels::{SUPERBLOCK, largest, pack_quarters, round},
    scalar::{from_f16, nearest, to_f16},
    search::{refined, symmetric},
    unit::LANES,
};

pub(super) const BYTES: usize = 110;
/// Weights of a group.
const GROUP: usize = 16;
const GROUPS: usize = SUPERBLOCK / GROUP;

pub(super) fn encode(x: &[f32; SUPERBLOCK], importance: Option<&[f32; SUPERBLOCK]>, out: &mut [u8; BYTES]) {
    let mut levels = [0; SUPERBLOCK];
    let (d, s) = match importance {
        Some(importance) => search(x, importance, &mut levels),
        None => refine(x, &mut levels),
    };
    let d = to_f16(d);
    for (group, (x, levels)) in x.as_chunks::<GROUP>().0.iter().zip(levels.as_chunks_mut::<GROUP>().0).enumerate() {
        round(x, from_f16(d) * (f32::from(s[group]) - 32.0), 0.0, (-4, 3), levels);
    }
    let mut high = [0; 32];
    for (bit, levels) in levels.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (high, level) in high.iter_mut().zip(levels) {
            *high |= (*level >> 2) << bit;
            *level &= 3;
        }
    }
    out[..32].copy_from_slice(&high);
    pack_quarters(&levels, &mut out[32..96]);
    out[96..108].copy_from_slice(&pack_scales(&s));
    out[108..].copy_from_slice(&d);
}

/// The scale of scales, and the groups' scales in its steps, counted from 0; `levels` become those of the groups' search.
fn refine(x: &[f32; SUPERBLOCK], levels: &mut [u8; SUPERBLOCK]) -> (f32, [u8; GROUPS]) {
    let mut scale = [0.0; GROUPS];
    for first in (0..GROUPS).step_by(LANES) {
        let (found, found_levels) = refined(&side_by_side::<GROUP>(&x[first * GROUP..]), 4.0);
        scale[first..][..LANES].copy_from_slice(&found);
        for (i, level) in levels.iter_mut().enumerate().skip(first * GROUP).take(LANES * GROUP) {
            *level = found_levels[i % GROUP][i / GROUP - first] as u8;
        }
    }
    let (_, max) = largest(&scale);
    if max == 0.0 {
        return (0.0, [0; GROUPS]);
    }
    let inverse = -32.0 / max;
    // The first conversion is to 8 bits, as in ggml.
    (1.0 / inverse, scale.map(|scale| ((nearest(inverse * scale) as i8).clamp(-32, 31) + 32) as u8))
}

/// [`refine`] with importance.
fn search(x: &[f32; SUPERBLOCK], importance: &[f32; SUPERBLOCK], levels: &mut [u8; SUPERBLOCK]) -> (f32, [u8; GROUPS]) {
    let variance = [2.0 * sum_of_squares(x) / SUPERBLOCK as f32; LANES];
    // Scales and their weights, in one lane.
    let (mut scale, mut sum_w) = ([[0.0; LANES]; GROUPS], [[0.0; LANES]; GROUPS]);
    for first in (0..GROUPS).step_by(LANES) {
        let groups = side_by_side::<GROUP>(&x[first * GROUP..]);
        let weights = weighted(&groups, &importance[first * GROUP..], &variance);
        let sum = sums(&weights);
        let found = symmetric(&groups, &weights, 4.0);
        for lane in 0..LANES {
            scale[first + lane][0] = found.scale[lane];
            sum_w[first + lane][0] = sum[lane];
        }
        for lane in 0..LANES {
            let range = (first + lane) * GROUP..(first + lane + 1) * GROUP;
            found.levels(lane, &x[range.clone()], &mut levels[range]);
        }
    }
    let found = symmetric(&scale, &sum_w, 32.0);
    let mut s = [0; GROUPS];
    found.levels(0, &scale.map(|scale| scale[0]), &mut s);
    (found.scale[0], s)
}

/// 16 scales of 6 bits in 12 bytes.
fn pack_scales(s: &[u8; GROUPS]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (group, s) in s.iter().enumerate() {
        bytes[group % 8] |= (s & 0x0f) << (group / 8 * 4);
        bytes[8 + group % 4] |= (s >> 4) << (group / 4 * 2);
    }
    bytes
}

#[inline(always)]
pub(super) fn decode(block: &[u8; BYTES], out: &mut [f32; SUPERBLOCK]) {
    let d = from_f16([block[108], block[109]]);
    for (group, out) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let low = block[96 + group % 8] >> (group / 8 * 4) & 0x0f;
        let high = block[104 + group % 4] >> (group / 4 * 2) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        let (first, shift, bit) = (group / 8 * 32 + group % 2 * 16, group / 2 % 4 * 2, group / 2);
        let bytes = block[32 + first..][..GROUP].iter().zip(&block[group % 2 * 16..]);
        for (x, (low, high)) in out.iter_mut().zip(bytes) {
            *x = scale * f32::from((low >> shift & 3 | (high >> bit & 1) << 2) as i8 - 4);
        }
    }
}
