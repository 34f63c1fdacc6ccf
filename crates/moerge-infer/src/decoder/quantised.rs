//! A weight matrix in memory, in f32, bf16 or one of llama.cpp's block formats, and its products.
//!
//! With few tokens, every weight is read once and multiplied in its stored format. For Q8_0 the activations are then
//! also rounded to 8 bits per block, as in llama.cpp. [`super::products`] splits products between threads.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::{
    few_tokens::dot_products,
    lanes::vectorised,
    linear::CHUNK_WEIGHTS,
    q8_0::{self, Rounded},
    weights::bug,
};
use moerge_checkpoint::BlockType;
use moerge_core::{
    error::Result,
    numeric::blocks::{decode_row, encode_row},
};

/// The format of weights in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    /// 32 bits per weight.
    F32,
    /// 16 bits.
    BF16,
    /// 8.5 bits: blocks of 32 weights with a scale.
    Q8_0,
    /// 4.5 bits: llama.cpp's Q4_K, in superblocks of 256 weights. Matrices whose rows are not a multiple of 256 use
    /// Q8_0.
    Q4K,
}

/// `[rows, columns]`.
pub(super) struct Matrix {
    rows: usize,
    columns: usize,
    values: Values,
}

enum Values {
    F32(Vec<f32>),
    BF16(Vec<bf16>),
    Q8_0(Vec<q8_0::Block>),
    Q4K(Vec<u8>),
}

/// The activations of some tokens in the formats that products with these matrices need.
pub(super) struct Inputs {
    /// `[tokens, features]`.
    plain: Vec<f32>,
    q8_0: Vec<Rounded>,
}

impl Quantisation {
    /// All formats with their names.
    pub const TABLE: [(&'static str, Self); 4] =
        [("f32", Self::F32), ("bf16", Self::BF16), ("q8_0", Self::Q8_0), ("q4_k", Self::Q4K)];

    /// The format's name.
    pub fn name(self) -> &'static str {
        Self::TABLE.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }

    /// This format, or the one that replaces it if rows of this length do not fit it.
    fn fitting(self, columns: usize) -> Self {
        let in_blocks = |of: usize| columns > 0 && columns.is_multiple_of(of);
        match self {
            Self::Q4K if in_blocks(BlockType::Q4_K.elements()) => self,
            Self::Q4K | Self::Q8_0 if in_blocks(q8_0::BLOCK) => Self::Q8_0,
            Self::Q4K | Self::Q8_0 => Self::BF16,
            plain => plain,
        }
    }

    /// Bytes of a matrix in this format.
    pub fn bytes(self, rows: usize, columns: usize) -> u64 {
        let weights = rows as u64 * columns as u64;
        match self.fitting(columns) {
            Self::F32 => weights * 4,
            Self::BF16 => weights * 2,
            Self::Q8_0 => weights / 32 * 34,
            Self::Q4K => weights / 256 * 144,
        }
    }
}

impl Matrix {
    /// Builds a matrix. Several threads call `read` to fill a buffer with a range of rows.
    pub(super) fn build(
        quantisation: Quantisation,
        (rows, columns): (usize, usize),
        read: impl Fn(Range<usize>, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<Self> {
        let shape = (rows, columns);
        let values = match quantisation.fitting(columns) {
            Quantisation::F32 => {
                let copy = |x: &[f32], out: &mut [f32]| {
                    out.copy_from_slice(x);
                    Ok(())
                };
                Values::F32(filled(shape, columns, 0.0, &read, copy)?)
            }
            Quantisation::BF16 => {
                let narrow = |x: &[f32], out: &mut [bf16]| {
                    out.iter_mut().zip(x).for_each(|(out, x)| *out = bf16::from_f32(*x));
                    Ok(())
                };
                Values::BF16(filled(shape, columns, bf16::ZERO, &read, narrow)?)
            }
            Quantisation::Q8_0 => {
                let round = |x: &[f32], out: &mut [q8_0::Block]| {
                    q8_0::Block::round(x, out);
                    Ok(())
                };
                Values::Q8_0(filled(shape, columns / q8_0::BLOCK, q8_0::Block::ZERO, &read, round)?)
            }
            Quantisation::Q4K => {
                let encode = |x: &[f32], out: &mut [u8]| encode_row(BlockType::Q4_K, x, None, out);
                Values::Q4K(filled(shape, q4_k_bytes(columns), 0, &read, encode)?)
            }
        };
        Ok(Self { rows, columns, values })
    }

    /// Row `index` as f32.
    pub(super) fn row(&self, index: usize) -> Result<Vec<f32>> {
        if index >= self.rows {
            return Err(bug(format!("row {index} of a matrix of {} rows", self.rows)));
        }
        let mut row = vec![0.0; self.columns];
        self.widen(index, 0..self.columns, &mut row);
        Ok(row)
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Fills `out` with the columns `part` of row `index` as f32. In block formats, `part` begins with a block.
    pub(super) fn widen(&self, index: usize, part: Range<usize>, out: &mut [f32]) {
        let (first, end) = (index * self.columns + part.start, index * self.columns + part.end);
        match &self.values {
            Values::F32(values) => out.copy_from_slice(&values[first..end]),
            Values::BF16(values) => vectorised(
                #[inline(always)]
                || out.iter_mut().zip(&values[first..end]).for_each(|(out, x)| *out = widened(*x)),
            ),
            Values::Q8_0(blocks) => q8_0::Block::widen(&blocks[first / q8_0::BLOCK..end / q8_0::BLOCK], out),
            Values::Q4K(bytes) => decode_q4_k(&bytes[q4_k_bytes(first)..q4_k_bytes(end)], out),
        }
    }

    /// Fills `out`, which has `columns` elements per row, with the products of the rows from `first` on and each input
    /// token.
    pub(super) fn times_few(&self, first: usize, inputs: &Inputs, out: &mut [f32], columns: usize) {
        let (start, end) = (first * self.columns, first * self.columns + out.len() / columns * self.columns);
        match &self.values {
            Values::F32(values) => {
                dot_products(&values[start..end], f32::from, self.columns, &inputs.plain, out, columns);
            }
            Values::BF16(values) => {
                dot_products(&values[start..end], widened, self.columns, &inputs.plain, out, columns);
            }
            Values::Q8_0(blocks) => {
                q8_0::products(&blocks[start / q8_0::BLOCK..end / q8_0::BLOCK], &inputs.q8_0, out, columns);
            }
            Values::Q4K(bytes) => {
                let mut wide = vec![0.0; self.columns];
                let rows = bytes[q4_k_bytes(start)..q4_k_bytes(end)].chunks_exact(q4_k_bytes(self.columns));
                for (row, out) in rows.zip(out.chunks_exact_mut(columns)) {
                    decode_q4_k(row, &mut wide);
                    dot_products(&wide, f32::from, self.columns, &inputs.plain, out, columns);
                }
            }
        }
    }
}

impl Inputs {
    /// Prepares `tokens`, `[tokens, features]`, for products with `matrices`, which have `features` columns.
    pub(super) fn new(tokens: Vec<f32>, matrices: &[&Matrix]) -> Self {
        let columns = matrices.first().map_or(1, |m| m.columns).max(1);
        let mut inputs = Self { plain: tokens, q8_0: Vec::new() };
        if matrices.iter().any(|m| matches!(m.values, Values::Q8_0(_))) {
            inputs.q8_0 = inputs.plain.chunks_exact(columns).map(Rounded::new).collect();
        }
        inputs
    }
}

/// A bf16 is the upper half of an f32.
#[inline(always)]
fn widened(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

fn decode_q4_k(bytes: &[u8], out: &mut [f32]) {
    // Lengths that do not fit are the only error.
    let decoded = decode_row(BlockType::Q4_K, bytes, out);
    debug_assert!(decoded.is_ok());
}

/// Bytes of this many weights, a whole number of superblocks.
fn q4_k_bytes(weights: usize) -> usize {
    weights / BlockType::Q4_K.elements() * BlockType::Q4_K.bytes()
}

/// `per_row` elements for each row, which `convert` makes from the f32 that `read` writes.
fn filled<E: Clone + Send>(
    (rows, columns): (usize, usize),
    per_row: usize,
    zero: E,
    read: &(impl Fn(Range<usize>, &mut [f32]) -> Result<()> + Sync),
    convert: impl Fn(&[f32], &mut [E]) -> Result<()> + Sync,
) -> Result<Vec<E>> {
    let mut elements = vec![zero; rows * per_row];
    let step = (CHUNK_WEIGHTS / columns.max(1)).max(1);
    let chunks = elements.par_chunks_mut((step * per_row).max(1)).enumerate();
    chunks.try_for_each_init(Vec::new, |room, (chunk, out)| {
        let first = chunk * step;
        let range = first..(first + step).min(rows);
        room.resize(range.len() * columns, 0.0);
        read(range, room)?;
        convert(room, out)
    })?;
    Ok(elements)
}
