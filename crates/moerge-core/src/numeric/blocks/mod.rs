//! ggml's block types: rows of f32 to blocks and back, byte for byte what llama.cpp's quantiser writes and reads.
//!
//! The reference is `ggml_quantize_chunk` of ggml 0.25.3 on x86-64, compiled without fused multiply-add, as wheels are; see
//! `tests/it/blocks`. Sums, roundings and conversions happen in its order, so the bytes are equal for any weights, zeros of
//! both signs, denormals, infinities and NaN included. (Where two NaN meet, the compiler decides whose bits stay.)
//!
//! A llama.cpp that is compiled for the machine it runs on fuses multiplications and additions, and its searches end
//! elsewhere where two scales are nearly as good. Of SmolLM2's blocks, without and with importance, that changes in q4_0
//! 0.1% and 0.1%, q4_1 none and 0.2%, q5_0 0.2% and 0.3%, q5_1 none and 0.3%, q2_K 29% and 6%, q3_K 3% and 1%, q4_K 2%
//! and 2%, q5_K 79% and 2%, q6_K 0.2% and 0.2%, iq4_nl 0.1% and 0.05%, iq4_xs 0.4% and 0.05%, q8_0 none. Blocks here
//! are the same on every machine.
//!
//! A type's file has its layout and formula. [`search`] has the searches for scales that several types share.

mod groups;
mod iq4;
mod lanes;
mod levels;
mod q2_k;
mod q3_k;
mod q4_k_q5_k;
mod q4_q5;
mod q6_k;
mod q8_0;
mod scalar;
mod search;
#[cfg(test)]
mod tests;
mod unit;

use moerge_checkpoint::BlockType;

use crate::error::{Error, Result};

use levels::SUPERBLOCK;
use q4_q5::Form;
use unit::{Unit, Work, compute};

const Q4_0: Form = Form { five_bits: false, minimum: false };
const Q4_1: Form = Form { five_bits: false, minimum: true };
const Q5_0: Form = Form { five_bits: true, minimum: false };
const Q5_1: Form = Form { five_bits: true, minimum: true };

/// Encodes a row of weights. `importance` has a number for each column, the mean square of what the column is multiplied
/// with; the search for scales then weighs errors by it. `out` gets [`row_bytes`] bytes.
///
/// # Errors
/// A row that is not whole blocks, or lengths that do not belong together.
pub fn encode_row(block: BlockType, row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<()> {
    check_lengths(block, row.len(), out.len())?;
    if let Some(importance) = importance.filter(|importance| importance.len() != row.len()) {
        let (found, expected) = (importance.len(), row.len());
        return Err(Error::input(format!("importance of {found} columns for rows of {expected}")));
    }
    match block {
        BlockType::Q4_0 => q4_q5::encode(Q4_0, row, importance, out),
        BlockType::Q4_1 => q4_q5::encode(Q4_1, row, importance, out),
        BlockType::Q5_0 => q4_q5::encode(Q5_0, row, importance, out),
        BlockType::Q5_1 => q4_q5::encode(Q5_1, row, importance, out),
        BlockType::Q8_0 => q8_0::encode(row, out),
        BlockType::Q2_K => superblocks(row, importance, out, q2_k::encode),
        BlockType::Q3_K => superblocks(row, importance, out, q3_k::encode),
        BlockType::Q4_K => superblocks(row, importance, out, q4_k_q5_k::encode_4),
        BlockType::Q5_K => superblocks(row, importance, out, q4_k_q5_k::encode_5),
        BlockType::Q6_K => superblocks(row, importance, out, q6_k::encode),
        BlockType::IQ4_NL => iq4::encode_nl(row, importance, out),
        BlockType::IQ4_XS => superblocks(row, importance, out, iq4::encode_xs),
    }
    Ok(())
}

/// Decodes a row of blocks. `out` gets a weight for each column; `row` has [`row_bytes`] bytes.
///
/// # Errors
/// A row that is not whole blocks, or lengths that do not belong together.
pub fn decode_row(block: BlockType, row: &[u8], out: &mut [f32]) -> Result<()> {
    check_lengths(block, out.len(), row.len())?;
    compute(Decode { block, row, out });
    Ok(())
}

/// Bytes of a row of `columns` weights; `None` if they are not whole blocks.
pub fn row_bytes(block: BlockType, columns: usize) -> Option<usize> {
    let blocks = columns.is_multiple_of(block.elements()).then_some(columns / block.elements())?;
    blocks.checked_mul(block.bytes())
}

/// How many of the blocks in `bytes` have a scale or minimum that is NaN or infinite: their weights were no numbers, or
/// beyond what f16 can hold.
pub fn blocks_not_finite(block: BlockType, bytes: &[u8]) -> usize {
    let numbers: &[usize] = match block {
        BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0 | BlockType::IQ4_NL | BlockType::IQ4_XS => &[0],
        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4_K | BlockType::Q5_K => &[0, 2],
        BlockType::Q2_K => &[80, 82],
        BlockType::Q3_K => &[108],
        BlockType::Q6_K => &[208],
    };
    let infinite = |high: u8| high & 0x7c == 0x7c;
    bytes.chunks_exact(block.bytes()).filter(|bytes| numbers.iter().any(|at| infinite(bytes[at + 1]))).count()
}

struct Decode<'a> {
    block: BlockType,
    row: &'a [u8],
    out: &'a mut [f32],
}

impl Work for Decode<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::redundant_closure, reason = "calls through a function's own type are not always inlined")]
    fn run<U: Unit>(self, _: U) {
        let Self { block, row, out } = self;
        match block {
            BlockType::Q4_0 => q4_q5::decode(Q4_0, row, out),
            BlockType::Q4_1 => q4_q5::decode(Q4_1, row, out),
            BlockType::Q5_0 => q4_q5::decode(Q5_0, row, out),
            BlockType::Q5_1 => q4_q5::decode(Q5_1, row, out),
            BlockType::Q8_0 => each(
                row,
                out,
                #[inline(always)]
                |block, out| q8_0::decode(block, out),
            ),
            BlockType::Q2_K => each(
                row,
                out,
                #[inline(always)]
                |block, out| q2_k::decode(block, out),
            ),
            BlockType::Q3_K => each(
                row,
                out,
                #[inline(always)]
                |block, out| q3_k::decode(block, out),
            ),
            BlockType::Q4_K => each(
                row,
                out,
                #[inline(always)]
                |block, out| q4_k_q5_k::decode_4(block, out),
            ),
            BlockType::Q5_K => each(
                row,
                out,
                #[inline(always)]
                |block, out| q4_k_q5_k::decode_5(block, out),
            ),
            BlockType::Q6_K => each(
                row,
                out,
                #[inline(always)]
                |block, out| q6_k::decode(block, out),
            ),
            BlockType::IQ4_NL => each(
                row,
                out,
                #[inline(always)]
                |block, out| iq4::decode_nl(block, out),
            ),
            BlockType::IQ4_XS => each(
                row,
                out,
                #[inline(always)]
                |block, out| iq4::decode_xs(block, out),
            ),
        }
    }
}

/// Calls `encode` for every superblock with its part of the importance.
fn superblocks<const BYTES: usize>(
    row: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    encode: impl Fn(&[f32; SUPERBLOCK], Option<&[f32; SUPERBLOCK]>, &mut [u8; BYTES]),
) {
    let mut importance = importance.map(|importance| importance.as_chunks().0.iter());
    for (x, out) in row.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        encode(x, importance.as_mut().and_then(Iterator::next), out);
    }
}

/// Calls `decode` for every block.
#[inline(always)]
fn each<const BYTES: usize, const WEIGHTS: usize>(
    row: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; WEIGHTS]),
) {
    for (block, out) in row.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(block, out);
    }
}

fn check_lengths(block: BlockType, weights: usize, bytes: usize) -> Result<()> {
    let name = block.name();
    let Some(expected) = row_bytes(block, weights) else {
        let of = block.elements();
        return Err(Error::input(format!("rows of {weights} weights are not whole blocks of {name}, which have {of}")));
    };
    if bytes == expected {
        return Ok(());
    }
    Err(Error::input(format!("{bytes} bytes for a row of {weights} weights in {name}, which has {expected}")))
}
