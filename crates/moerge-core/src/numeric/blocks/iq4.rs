//! iq4_nl and iq4_xs: 16 levels that stand for the values of a table, closer near zero ([`VALUES`]).
//!
//! iq4_nl: 32 weights in 18 bytes, `w = d * VALUES[q]`.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, f16 |
//! | 2..18 | `q`: byte i has weight i in its low half, i + 16 in its high |
//!
//! iq4_xs: 256 weights in 136 bytes, 8 groups of 32, `w = d * (s - 32) * VALUES[q]`.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, f16 |
//! | 2..4 | the high 2 bits of `s`, from bit 0 on |
//! | 4..8 | the low 4 bits of `s`, two groups a byte |
//! | 8..136 | `q`: of every 32 weights, byte i has weight i in its low half, i + 16 in its high |
//!
//! Scales are searched ([`nonlinear`]). A weight counts by its square; with importance `importance * sqrt(s + w^2)`, `s`
//! being twice the mean square of the block.
//!
//! ggml 0.25.3: `quantize_iq4_nl`, `quantize_iq4_xs`, `dequantize_row_iq4_nl`, `dequantize_row_iq4_xs`.

use super::{
    groups::{Groups, Side, side_by_side, squares, sum_of_squares, weighted},
    levels::{SUPERBLOCK, largest, pack_halves},
    scalar::{from_f16, nearest, to_f16},
    search::{VALUES, levels, nonlinear},
    unit::LANES,
};

pub(super) const NL_WEIGHTS: usize = 32;
pub(super) const NL_BYTES: usize = 18;
pub(super) const XS_BYTES: usize = 136;
/// Weights of a group.
const GROUP: usize = 32;
const GROUPS: usize = SUPERBLOCK / GROUP;

/// Encodes a row of whole iq4_nl blocks, eight at a time.
pub(super) fn encode_nl(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let at_once = LANES * NL_WEIGHTS;
    for (start, out) in (0..row.len()).step_by(at_once).zip(out.chunks_mut(LANES * NL_BYTES)) {
        let x = &row[start..row.len().min(start + at_once)];
        let blocks = x.as_chunks::<NL_WEIGHTS>().0;
        let mut variance = [0.0; LANES];
        for (variance, x) in variance.iter_mut().zip(blocks) {
            *variance = sum_of_squares(x) * (2.0 / NL_WEIGHTS as f32);
        }
        let groups = side_by_side(x);
        let scale = nonlinear(&groups, &weights(&groups, importance.map(|importance| &importance[start..]), &variance));
        for ((x, out), scale) in blocks.iter().zip(out.as_chunks_mut::<NL_BYTES>().0).zip(scale) {
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            out[..2].copy_from_slice(&to_f16(scale));
            pack_halves(&levels(x, inverse), &mut out[2..]);
        }
    }
}

pub(super) fn encode_xs(x: &[f32; SUPERBLOCK], importance: Option<&[f32; SUPERBLOCK]>, out: &mut [u8; XS_BYTES]) {
    let variance = [sum_of_squares(x) * (2.0 / SUPERBLOCK as f32); LANES];
    let groups = side_by_side(x);
    let scale = nonlinear(&groups, &weights(&groups, importance.map(|importance| &importance[..]), &variance));
    let (_, max) = largest(&scale);
    let d = -max / 32.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let (mut high, mut low) = (0u16, [0u8; GROUPS / 2]);
    for (group, (x, out)) in x.as_chunks::<GROUP>().0.iter().zip(out[8..].as_chunks_mut::<16>().0).enumerate() {
        let s = nearest(inverse * scale[group]).clamp(-32, 31);
        // Weights are rounded with the scale as it was before f16.
        let scale = d * s as f32;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        pack_halves(&levels(x, inverse), out);
        let s = (s + 32) as u8;
        low[group / 2] |= (s & 0x0f) << (group % 2 * 4);
        high |= u16::from(s >> 4) << (group * 2);
    }
    out[..2].copy_from_slice(&to_f16(d));
    out[2..4].copy_from_slice(&high.to_le_bytes());
    out[4..8].copy_from_slice(&low);
}

/// What the weights of eight groups count.
fn weights(x: &Groups<GROUP>, importance: Option<&[f32]>, variance: &Side) -> Groups<GROUP> {
    let Some(importance) = importance else { return squares(x) };
    weighted(x, importance, variance)
}

#[inline(always)]
pub(super) fn decode_nl(block: &[u8; NL_BYTES], out: &mut [f32; NL_WEIGHTS]) {
    decode_group(from_f16([block[0], block[1]]), &block[2..], out);
}

#[inline(always)]
pub(super) fn decode_xs(block: &[u8; XS_BYTES], out: &mut [f32; SUPERBLOCK]) {
    let d = from_f16([block[0], block[1]]);
    let high = u16::from_le_bytes([block[2], block[3]]);
    let groups = out.as_chunks_mut::<GROUP>().0.iter_mut().zip(block[8..].as_chunks::<16>().0);
    for (group, (out, bytes)) in groups.enumerate() {
        let s = block[4 + group / 2] >> (group % 2 * 4) & 0x0f | ((high >> (group * 2) & 3) as u8) << 4;
        decode_group(d * (f32::from(s) - 32.0), bytes, out);
    }
}

#[inline(always)]
fn decode_group(scale: f32, bytes: &[u8], out: &mut [f32; GROUP]) {
    let (first, second) = out.split_at_mut(GROUP / 2);
    for ((x, y), byte) in first.iter_mut().zip(second).zip(bytes) {
        *x = scale * f32::from(VALUES[usize::from(byte & 0x0f)]);
        *y = scale * f32::from(VALUES[usize::from(byte >> 4)]);
    }
}
