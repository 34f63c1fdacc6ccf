//! Levels of weights: rounding with a known scale, and how several types pack them into bits.

use super::scalar::nearest;

/// Weights of a superblock (`QK_K`).
pub(super) const SUPERBLOCK: usize = 256;

/// Levels of weights `x` with a group's `scale` and `offset`: `(x + offset) / scale`, rounded, from `low` to `high`,
/// counted from 0. False for a scale of zero, whose levels stay what they are.
pub(super) fn round(x: &[f32], scale: f32, offset: f32, (low, high): (i32, i32), levels: &mut [u8]) -> bool {
    if scale == 0.0 {
        return false;
    }
    for (x, level) in x.iter().zip(levels) {
        *level = (nearest((x + offset) / scale).clamp(low, high) - low) as u8;
    }
    true
}

/// The largest magnitude, and the first number that has it. NaN counts for nothing.
pub(super) fn largest(x: &[f32]) -> (f32, f32) {
    let larger = |(largest, max): (f32, f32), x: &f32| if x.abs() > largest { (x.abs(), *x) } else { (largest, max) };
    x.iter().fold((0.0, 0.0), larger)
}

/// 32 levels of 4 bits in 16 bytes: weight i in the low half of byte i, weight i + 16 in the high half.
pub(super) fn pack_halves(levels: &[u8], bytes: &mut [u8]) {
    let (low, high) = levels.split_at(levels.len() / 2);
    for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = low | high << 4;
    }
}

/// 256 levels of 2 bits in 64 bytes: 128 weights in 32 bytes, of which byte i has weights i, i + 32, i + 64, i + 96.
pub(super) fn pack_quarters(levels: &[u8; SUPERBLOCK], bytes: &mut [u8]) {
    for (bytes, levels) in bytes.as_chunks_mut::<32>().0.iter_mut().zip(levels.as_chunks::<128>().0) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = levels[i] | levels[i + 32] << 2 | levels[i + 64] << 4 | levels[i + 96] << 6;
        }
    }
}
