//! q4_0, q4_1, q5_0, q5_1: 32 weights with one scale, and for `_1` a minimum.
//!
//! | | bytes | formula |
//! |---|---|---|
//! | q4_0 | `d`, 16 of `q` | `w = d * (q - 8)` |
//! | q4_1 | `d`, `m`, 16 of `q` | `w = d * q + m` |
//! | q5_0 | `d`, 4 of high bits, 16 of `q` | `w = d * (q - 16)` |
//! | q5_1 | `d`, `m`, 4 of high bits, 16 of `q` | `w = d * q + m` |
//!
//! `d` and `m` are f16. Byte i of `q` has the low 4 bits of weight i in its low half and of weight i + 16 in its high
//! half; bit i of the high bits, a little-endian u32, is the fifth of weight i.
//!
//! Without importance, `d` gives the weight that is largest by magnitude the lowest level, or spreads the levels from the
//! smallest weight to the largest. With importance, scales are searched; a weight then counts
//! `importance * sqrt(s + w^2)`, `s` being the mean square of the row.
//!
//! ggml 0.25.3: `quantize_row_q4_0_ref`, `quantize_row_q4_0_impl` and so on.

use super::{
    groups::{side_by_side, sum_of_squares, weighted},
    lanes::Lanes,
    scalar::{from_f16, to_f16},
    search::{Trials, affine, symmetric},
    unit::{LANES, Unit, Work, compute},
};

pub(super) const WEIGHTS: usize = 32;

/// Bits of a level and whether there is a minimum.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) five_bits: bool,
    pub(super) minimum: bool,
}

/// A block's numbers before they are packed.
struct Block {
    d: f32,
    m: f32,
    levels: [u8; WEIGHTS],
}

impl Form {
    fn bytes(self) -> usize {
        18 + if self.five_bits { 4 } else { 0 } + if self.minimum { 2 } else { 0 }
    }

    /// The highest level.
    fn highest(self) -> u8 {
        if self.five_bits { 31 } else { 15 }
    }
}

/// Encodes a row of whole blocks.
pub(super) fn encode(form: Form, row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    match importance {
        Some(importance) => encode_by_importance(form, row, importance, out),
        None => compute(Row { form, row, out }),
    }
}

struct Row<'a> {
    form: Form,
    row: &'a [f32],
    out: &'a mut [u8],
}

impl Work for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<U: Unit>(self, unit: U) {
        let Self { form, row, out } = self;
        for (x, out) in row.as_chunks().0.iter().zip(out.chunks_exact_mut(form.bytes())) {
            pack(form, &if form.minimum { spread(unit, form, x) } else { scaled(unit, form, x) }, out);
        }
    }
}

/// Levels from the lowest for the weight that is largest by magnitude, on both sides of zero.
#[inline(always)]
fn scaled<U: Unit>(unit: U, form: Form, x: &[f32; WEIGHTS]) -> Block {
    let half = f32::from(form.highest() / 2 + 1);
    let d = largest(unit, x) / -half;
    let mut levels = low_bytes(unit, x, 0.0, d, half + 0.5);
    levels.iter_mut().for_each(|level| *level = (*level as i8).min(form.highest() as i8) as u8);
    Block { d, m: 0.0, levels }
}

/// Levels from the smallest weight to the largest.
#[inline(always)]
fn spread<U: Unit>(unit: U, form: Form, x: &[f32; WEIGHTS]) -> Block {
    let (min, max) = range(unit, x);
    let d = (max - min) / f32::from(form.highest());
    let mut levels = low_bytes(unit, x, min, d, 0.5);
    if !form.five_bits {
        levels.iter_mut().for_each(|level| *level = (*level as i8).min(15) as u8);
    }
    Block { d, m: min, levels }
}

/// `(x - min) / d + half`, rounded down.
#[inline(always)]
fn low_bytes<U: Unit>(unit: U, x: &[f32; WEIGHTS], min: f32, d: f32, half: f32) -> [u8; WEIGHTS] {
    let inverse = Lanes::splat(unit, if d == 0.0 { 0.0 } else { 1.0 / d });
    let (min, half) = (Lanes::splat(unit, min), Lanes::splat(unit, half));
    let mut bytes = [0; WEIGHTS];
    for (bytes, x) in bytes.as_chunks_mut::<LANES>().0.iter_mut().zip(x.as_chunks().0) {
        *bytes = ((Lanes::load(unit, x) - min) * inverse + half).low_bytes();
    }
    bytes
}

/// The first weight that is largest by magnitude. NaN counts for nothing.
#[inline(always)]
fn largest<U: Unit>(unit: U, x: &[f32; WEIGHTS]) -> f32 {
    let mut largest = Lanes::splat(unit, 0.0);
    for x in x.as_chunks::<LANES>().0 {
        largest = largest.or_larger(Lanes::load(unit, x).abs());
    }
    let magnitude = largest.store().into_iter().fold(0.0, |max, x| if x > max { x } else { max });
    if magnitude == 0.0 {
        return 0.0;
    }
    let (mut above, mut below) = (false, false);
    for x in x.as_chunks::<LANES>().0 {
        let x = Lanes::load(unit, x);
        above |= x.equal(Lanes::splat(unit, magnitude)).any();
        below |= x.equal(Lanes::splat(unit, -magnitude)).any();
    }
    match (above, below) {
        (true, true) => x.iter().copied().find(|x| x.abs() == magnitude).unwrap_or(magnitude),
        (_, true) => -magnitude,
        _ => magnitude,
    }
}

/// The smallest and the largest weight, of zeros the first. NaN counts for nothing.
#[inline(always)]
fn range<U: Unit>(unit: U, x: &[f32; WEIGHTS]) -> (f32, f32) {
    let (mut mins, mut maxs) = (Lanes::splat(unit, f32::MAX), Lanes::splat(unit, f32::MIN));
    for x in x.as_chunks::<LANES>().0 {
        mins = mins.or_smaller(Lanes::load(unit, x));
        maxs = maxs.or_larger(Lanes::load(unit, x));
    }
    let min = halved(mins.store(), smaller);
    let max = halved(maxs.store(), larger);
    if min != 0.0 && max != 0.0 {
        return (min, max);
    }
    // Which of 0.0 and -0.0 came first shows in the bits of the minimum.
    (x.iter().copied().fold(f32::MAX, smaller), x.iter().copied().fold(f32::MIN, larger))
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Eight numbers as one: two at a time, so that no result waits for seven others.
#[inline(always)]
fn halved(x: [f32; LANES], of_two: impl Fn(f32, f32) -> f32) -> f32 {
    let four: [f32; 4] = std::array::from_fn(
        #[inline(always)]
        |i| of_two(x[i], x[i + 4]),
    );
    of_two(of_two(four[0], four[2]), of_two(four[1], four[3]))
}

fn encode_by_importance(form: Form, row: &[f32], importance: &[f32], out: &mut [u8]) {
    let variance = [sum_of_squares(row) / row.len() as f32; LANES];
    let groups = row.chunks(LANES * WEIGHTS).zip(importance.chunks(LANES * WEIGHTS));
    for ((x, importance), out) in groups.zip(out.chunks_mut(LANES * form.bytes())) {
        let sides = side_by_side::<WEIGHTS>(x);
        let weights = weighted(&sides, importance, &variance);
        let blocks = x.as_chunks::<WEIGHTS>().0.iter().zip(out.chunks_exact_mut(form.bytes()));
        if form.minimum {
            let found = affine::<WEIGHTS, false>(&sides, &weights, f32::from(form.highest()), Trials::WITH_IMPORTANCE);
            for (lane, (x, out)) in blocks.enumerate() {
                let mut levels = [0; WEIGHTS];
                found.levels(lane, x, &mut levels);
                pack(form, &Block { d: found.scale[lane], m: -found.offset[lane], levels }, out);
            }
        } else {
            let found = symmetric(&sides, &weights, f32::from(form.highest() / 2 + 1));
            for (lane, (x, out)) in blocks.enumerate() {
                let mut levels = [0; WEIGHTS];
                found.levels(lane, x, &mut levels);
                pack(form, &Block { d: found.scale[lane], m: 0.0, levels }, out);
            }
        }
    }
}

#[inline(always)]
fn pack(form: Form, block: &Block, out: &mut [u8]) {
    let (d, out) = out.split_at_mut(2);
    d.copy_from_slice(&to_f16(block.d));
    let (m, out) = out.split_at_mut(if form.minimum { 2 } else { 0 });
    if form.minimum {
        m.copy_from_slice(&to_f16(block.m));
    }
    let (high, out) = out.split_at_mut(if form.five_bits { 4 } else { 0 });
    // What weights that are not finite leave above the fifth bit stays in types of four.
    let mask = if form.five_bits { 0x0f } else { 0xff };
    let (first, second) = block.levels.split_at(WEIGHTS / 2);
    for ((byte, first), second) in out.iter_mut().zip(first).zip(second) {
        *byte = first & mask | (second & mask) << 4;
    }
    if form.five_bits {
        let bits = block.levels.iter().enumerate().map(|(i, level)| u32::from(level >> 4 & 1) << i);
        high.copy_from_slice(&bits.fold(0, |all, bit| all | bit).to_le_bytes());
    }
}

/// Decodes a row of whole blocks.
#[inline(always)]
pub(super) fn decode(form: Form, row: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(form.bytes()).zip(out.as_chunks_mut::<WEIGHTS>().0) {
        let d = from_f16([block[0], block[1]]);
        let rest = &block[if form.minimum { 4 } else { 2 }..];
        let (high, rest) = rest.split_at(if form.five_bits { 4 } else { 0 });
        let high = high.iter().rev().fold(0u32, |all, byte| all << 8 | u32::from(*byte));
        let mut levels = [0u8; WEIGHTS];
        for (i, byte) in rest.iter().enumerate() {
            levels[i] = byte & 0x0f;
            levels[i + 16] = byte >> 4;
        }
        if form.five_bits {
            levels.iter_mut().enumerate().for_each(|(i, level)| *level |= (high >> i & 1) as u8 * 16);
        }
        if form.minimum {
            let m = from_f16([block[2], block[3]]);
            out.iter_mut().zip(levels).for_each(|(x, level)| *x = f32::from(level) * d + m);
        } else {
            let half = (form.highest() / 2 + 1) as i8;
            out.iter_mut().zip(levels).for_each(|(x, level)| *x = f32::from(level as i8 - half) * d);
        }
    }
}
