//! q4_K and q5_K: 256 weights in 144 or 176 bytes, 8 groups of 32, `w = d * s * q - dmin * t` with 16 or 32 levels `q`.
//!
//! | q4_K | q5_K | what |
//! |---|---|---|
//! | 0..2 | 0..2 | `d`, f16 |
//! | 2..4 | 2..4 | `dmin`, f16 |
//! | 4..16 | 4..16 | `s` and `t` of the groups, 6 bits each ([`pack_scales`]) |
//! | - | 16..48 | the fifth bit of `q`: bit b of byte i is that of weight i + 32 b |
//! | 16..144 | 48..176 | the low 4 bits of `q`: of every 64 weights, byte i has weight i in its low half, i + 32 in its high |
//!
//! Every group's scale and minimum are searched, then rounded to 6 bits, then its weights are rounded again. In the search
//! a weight counts `|w|` plus the root of the group's mean square. With importance it counts
//! `importance * sqrt(s + w^2)`, `s` being twice the mean square of the superblock.
//!
//! ggml 0.25.3: `quantize_row_q4_K_ref`, `quantize_row_q4_K_impl`, `dequantize_row_q4_K`, and of `q5_K`.

use super::{
    groups::{Groups, Side, map, side_by_side, squares, sum_of_squares, sums, weighted},
    levels::{SUPERBLOCK, pack_halves, round},
    scalar::{from_f16, nearest, to_f16},
    search::{Affine, Trials, affine, scales},
    unit::LANES,
};

/// Bytes of q4_K.
pub(super) const BYTES_4: usize = 144;
/// Bytes of q5_K.
pub(super) const BYTES_5: usize = 176;
/// Weights of a group.
const GROUP: usize = 32;
const GROUPS: usize = SUPERBLOCK / GROUP;

/// Scales or minima of the groups.
type Steps = [u8; GROUPS];

pub(super) fn encode_4(x: &[f32; SUPERBLOCK], importance: Option<&[f32; SUPERBLOCK]>, out: &mut [u8; BYTES_4]) {
    let trials = Trials { first: -1.0, step: 0.1, last: 20 };
    let levels = encode(x, importance, 15, trials, &mut out[..16]);
    pack_levels(&levels, &mut out[16..]);
}

pub(super) fn encode_5(x: &[f32; SUPERBLOCK], importance: Option<&[f32; SUPERBLOCK]>, out: &mut [u8; BYTES_5]) {
    let trials = Trials { first: -0.5, step: 0.1, last: 15 };
    let mut levels = encode(x, importance, 31, trials, &mut out[..16]);
    let mut high = [0; GROUP];
    for (bit, levels) in levels.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        for (high, level) in high.iter_mut().zip(levels) {
            *high |= (*level >> 4) << bit;
            *level &= 0x0f;
        }
    }
    out[16..48].copy_from_slice(&high);
    pack_levels(&levels, &mut out[48..]);
}

/// Writes scales to the first 16 bytes and gives the levels.
fn encode(
    x: &[f32; SUPERBLOCK],
    importance: Option<&[f32; SUPERBLOCK]>,
    highest: u8,
    trials: Trials,
    out: &mut [u8],
) -> [u8; SUPERBLOCK] {
    let groups = side_by_side::<GROUP>(x);
    let (found, d, s, dmin, t) = if let Some(importance) = importance {
        let (found, sums) = search_by_importance(x, &groups, importance, highest);
        let ((d, mut s), (dmin, mut t)) = (scales(&found.scale, &sums, 63), scales(&found.offset, &sums, 63));
        if highest == 31 {
            // Only weights that are not finite exceed it; ggml bounds them in q5_K alone.
            (s, t) = (s.map(|s| s.min(63)), t.map(|t| t.min(63)));
        }
        (found, d, s, dmin, t)
    } else {
        let found = affine::<GROUP, false>(&groups, &weights(&groups), f32::from(highest), trials);
        let ((d, s), (dmin, t)) = (in_63_steps(&found.scale), in_63_steps(&found.offset));
        (found, d, s, dmin, t)
    };
    let (d, dmin) = (to_f16(d), to_f16(dmin));
    out[..2].copy_from_slice(&d);
    out[2..4].copy_from_slice(&dmin);
    out[4..16].copy_from_slice(&pack_scales(&s, &t));
    let mut levels = [0; SUPERBLOCK];
    // As stored: more than 6 bits would have been cut.
    let (s, t) = unpack_scales(&out[4..16]);
    for (group, (x, levels)) in x.as_chunks::<GROUP>().0.iter().zip(levels.as_chunks_mut::<GROUP>().0).enumerate() {
        let (scale, offset) = (from_f16(d) * f32::from(s[group]), from_f16(dmin) * f32::from(t[group]));
        if !round(x, scale, offset, (0, i32::from(highest)), levels) {
            found.levels(group, x, levels);
        }
    }
    levels
}

/// What weights count without importance.
fn weights(x: &Groups<GROUP>) -> Groups<GROUP> {
    let average = sums(&squares(x)).map(|sum| (sum / GROUP as f32).sqrt());
    map(x, &average, |x, average| average + x.abs())
}

/// The search, and the sum of each group's weights.
fn search_by_importance(
    x: &[f32; SUPERBLOCK],
    groups: &Groups<GROUP>,
    importance: &[f32; SUPERBLOCK],
    highest: u8,
) -> (Affine, Side) {
    let variance = [2.0 * sum_of_squares(x) / SUPERBLOCK as f32; LANES];
    let weights = weighted(groups, importance, &variance);
    (affine::<GROUP, false>(groups, &weights, f32::from(highest), Trials::WITH_IMPORTANCE), sums(&weights))
}

/// A scale that makes the largest number 63, and all numbers with it.
fn in_63_steps(x: &[f32; GROUPS]) -> (f32, Steps) {
    let max = x.iter().fold(0.0, |max, x| if *x > max { *x } else { max });
    let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
    (max / 63.0, x.map(|x| (nearest(inverse * x) as u8).min(63)))
}

/// Bytes 0..4: `s` of groups 0..4; 4..8: `t` of groups 0..4, each with two bits of groups 4..8 above; 8..12: the low 4
/// bits of `s` and, in the high half, of `t`.
fn pack_scales(s: &Steps, t: &Steps) -> [u8; 12] {
    let mut bytes = [0; 12];
    for i in 0..4 {
        bytes[i] = s[i] | (s[i + 4] >> 4) << 6;
        bytes[i + 4] = t[i] | (t[i + 4] >> 4) << 6;
        bytes[i + 8] = s[i + 4] & 0x0f | t[i + 4] << 4;
    }
    bytes
}

#[inline(always)]
fn unpack_scales(bytes: &[u8]) -> (Steps, Steps) {
    let (mut s, mut t) = ([0; GROUPS], [0; GROUPS]);
    for i in 0..4 {
        (s[i], t[i]) = (bytes[i] & 63, bytes[i + 4] & 63);
        s[i + 4] = bytes[i + 8] & 0x0f | bytes[i] >> 6 << 4;
        t[i + 4] = bytes[i + 8] >> 4 | bytes[i + 4] >> 6 << 4;
    }
    (s, t)
}

fn pack_levels(levels: &[u8; SUPERBLOCK], bytes: &mut [u8]) {
    for (levels, bytes) in levels.as_chunks::<64>().0.iter().zip(bytes.as_chunks_mut::<32>().0) {
        pack_halves(levels, bytes);
    }
}

#[inline(always)]
pub(super) fn decode_4(block: &[u8; BYTES_4], out: &mut [f32; SUPERBLOCK]) {
    decode(&block[..16], &[0; GROUP], &block[16..], out);
}

#[inline(always)]
pub(super) fn decode_5(block: &[u8; BYTES_5], out: &mut [f32; SUPERBLOCK]) {
    decode(&block[..16], &block[16..48], &block[48..], out);
}

#[inline(always)]
fn decode(head: &[u8], high: &[u8], low: &[u8], out: &mut [f32; SUPERBLOCK]) {
    let (d, dmin) = (from_f16([head[0], head[1]]), from_f16([head[2], head[3]]));
    let (s, t) = unpack_scales(&head[4..]);
    for (group, out) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let (scale, offset) = (d * f32::from(s[group]), dmin * f32::from(t[group]));
        let bytes = low[group / 2 * GROUP..][..GROUP].iter().zip(high);
        for (x, (low, high)) in out.iter_mut().zip(bytes) {
            let level = low >> (group % 2 * 4) & 0x0f | (high >> group & 1) << 4;
            *x = scale * f32::from(level) - offset;
        }
    }
}
