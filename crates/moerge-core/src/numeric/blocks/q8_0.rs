//! q8_0: 32 weights in 34 bytes, `w = d * q`.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, f16: the largest magnitude / 127 |
//! | 2..34 | `q`, i8: `w / d`, halves rounded away from zero |
//!
//! Importance changes nothing (ggml 0.25.3: `quantize_row_q8_0_ref`, `dequantize_row_q8_0`).

use super::{
    lanes::Lanes,
    scalar::{from_f16, to_f16},
    unit::{LANES, Unit, Work, compute},
};

pub(super) const WEIGHTS: usize = 32;
pub(super) const BYTES: usize = 34;

/// The number below 0.5. Added to a magnitude, it makes rounding down rounding to nearest, halves up.
const HALF: f32 = 0.499_999_97;

/// Encodes a row of whole blocks.
pub(super) fn encode(row: &[f32], out: &mut [u8]) {
    compute(Row { row, out });
}

struct Row<'a> {
    row: &'a [f32],
    out: &'a mut [u8],
}

impl Work for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<U: Unit>(self, unit: U) {
        for (x, out) in self.row.as_chunks().0.iter().zip(self.out.as_chunks_mut().0) {
            encode_block(unit, x, out);
        }
    }
}

#[inline(always)]
fn encode_block<U: Unit>(unit: U, x: &[f32; WEIGHTS], out: &mut [u8; BYTES]) {
    let d = largest_magnitude(unit, x) / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    out[..2].copy_from_slice(&to_f16(d));
    let zero = Lanes::splat(unit, 0.0);
    let (inverse, half) = (Lanes::splat(unit, inverse), Lanes::splat(unit, HALF));
    for (q, x) in out[2..].as_chunks_mut::<LANES>().0.iter_mut().zip(x.as_chunks().0) {
        let x = Lanes::load(unit, x) * inverse;
        *q = (x + x.less(zero).select(-half, half)).low_bytes();
    }
}

#[inline(always)]
pub(super) fn decode(block: &[u8; BYTES], out: &mut [f32; WEIGHTS]) {
    let d = from_f16([block[0], block[1]]);
    for (x, q) in out.iter_mut().zip(&block[2..]) {
        *x = f32::from(*q as i8) * d;
    }
}

/// The largest magnitude. A NaN hides what comes before it, as in ggml's `MAX`.
#[inline(always)]
fn largest_magnitude<U: Unit>(unit: U, x: &[f32; WEIGHTS]) -> f32 {
    let (mut largest, mut sum) = (Lanes::splat(unit, 0.0), Lanes::splat(unit, 0.0));
    for x in x.as_chunks::<LANES>().0 {
        let x = Lanes::load(unit, x);
        largest = largest.or_larger(x.abs());
        sum = sum + x;
    }
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    // A sum is NaN if a weight is, or if there are infinities.
    if sum.equal(sum).not().any() {
        return x.iter().fold(0.0, |max, x| larger(max, x.abs()));
    }
    largest.store().into_iter().fold(0.0, larger)
}
