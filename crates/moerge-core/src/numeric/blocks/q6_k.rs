//! q6_K: 256 weights in 210 bytes, 16 groups of 16, `w = d * s * (q - 32)` with 64 levels `q`.
//!
//! | bytes | what |
//! |---|---|
//! | 0..128 | the low 4 bits of `q`: of every 128 weights, byte i < 64 has weight i in its low half, i + 64 in its high |
//! | 128..192 | the high 2 bits of `q`: of every 128 weights, byte i has i, i + 32, i + 64, i + 96 |
//! | 192..208 | `s`, i8 |
//! | 208..210 | `d`, f16 |
//!
//! Every group's scale is searched, then rounded to 8 bits, then its weights are rounded again. In the search a weight
//! counts by its square, or by its importance alone.
//!
//! ggml 0.25.3: `quantize_row_q6_K_ref`, `quantize_row_q6_K_impl`, `dequantize_row_q6_K`.

use super::{
    groups::{side_by_side, squares},
    levels::{SUPERBLOCK, largest, pack_halves, pack_quarters, round},
    scalar::{TINY, from_f16, nearest, to_f16},
    search::symmetric,
    unit::LANES,
};

pub(super) const BYTES: usize = 210;
/// Weights of a group.
const GROUP: usize = 16;
const GROUPS: usize = SUPERBLOCK / GROUP;

pub(super) fn encode(x: &[f32; SUPERBLOCK], importance: Option<&[f32; SUPERBLOCK]>, out: &mut [u8; BYTES]) {
    let mut levels = [0; SUPERBLOCK];
    let mut scale = [0.0; GROUPS];
    let found = [0, LANES].map(|first| {
        let groups = side_by_side::<GROUP>(&x[first * GROUP..]);
        let weights = match importance {
            Some(importance) => side_by_side(&importance[first * GROUP..]),
            None => squares(&groups),
        };
        let group = symmetric(&groups, &weights, 32.0);
        scale[first..][..LANES].copy_from_slice(&group.scale);
        group
    });
    let (largest, max) = largest(&scale);
    if largest < TINY {
        *out = [0; BYTES];
        return;
    }
    let inverse = -128.0 / max;
    let d = to_f16(1.0 / inverse);
    for (group, (x, levels)) in x.as_chunks::<GROUP>().0.iter().zip(levels.as_chunks_mut::<GROUP>().0).enumerate() {
        let s = nearest(inverse * scale[group]).min(127) as i8;
        out[192 + group] = s as u8;
        if !round(x, from_f16(d) * f32::from(s), 0.0, (-32, 31), levels) {
            found[group / LANES].levels(group % LANES, x, levels);
        }
    }
    for (half, levels) in levels.as_chunks::<128>().0.iter().enumerate() {
        pack_halves(&levels.map(|level| level & 0x0f), &mut out[half * 64..][..64]);
    }
    pack_quarters(&levels.map(|level| level >> 4), &mut out[128..192]);
    out[208..].copy_from_slice(&d);
}

#[inline(always)]
pub(super) fn decode(block: &[u8; BYTES], out: &mut [f32; SUPERBLOCK]) {
    let d = from_f16([block[208], block[209]]);
    for (group, out) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[192 + group] as i8);
        // Of 128 weights, the group's first.
        let (half, first) = (group / 8, group % 8 * GROUP);
        let low = &block[half * 64 + first % 64..][..GROUP];
        let high = &block[128 + half * 32 + first % 32..][..GROUP];
        let (low_shift, high_shift) = (first / 64 * 4, first / 32 * 2);
        for (x, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
            let level = low >> low_shift & 0x0f | (high >> high_shift & 3) << 4;
            *x = scale * f32::from(level as i8 - 32);
        }
    }
}
