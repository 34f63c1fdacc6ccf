//! A weight matrix in memory, in f32, bf16 or one of llama.cpp's block formats, and its products.
//!
//! With few tokens, every weight is read once and multiplied in its stored format. For block formats the activations
//! are then also rounded to 8 bits per block, as in llama.cpp. The Q4_K loops are candle's. [`super::products`] splits
//! products between threads.

use std::ops::Range;

use candle_core::quantized::k_quants::{BlockQ4K, BlockQ8K, GgmlType};
use half::bf16;
use rayon::prelude::*;

use super::{
    few_tokens::dot_products,
    lanes::vectorised,
    linear::CHUNK_WEIGHTS,
    q8_0::{self, Rounded},
    weights::bug,
};
use moerge_core::error::{Error, Result};

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
    Q4K(Vec<BlockQ4K>),
}

/// The activations of some tokens in the formats that products with these matrices need.
pub(super) struct Inputs {
    /// `[tokens, features]`.
    plain: Vec<f32>,
    q8_0: Vec<Rounded>,
    q8_k: Vec<BlockQ8K>,
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
            Self::Q4K if in_blocks(BlockQ4K::BLCK_SIZE) => self,
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
        let values = match quantisation.fitting(columns) {
            Quantisation::F32 => Values::F32(filled(rows, columns, 1, 0.0, &read, |x, out| out.copy_from_slice(x))?),
            Quantisation::BF16 => {
                let narrow = |x: &[f32], out: &mut [bf16]| {
                    out.iter_mut().zip(x).for_each(|(out, x)| *out = bf16::from_f32(*x));
                };
                Values::BF16(filled(rows, columns, 1, bf16::ZERO, &read, narrow)?)
            }
            Quantisation::Q8_0 => {
                Values::Q8_0(filled(rows, columns, q8_0::BLOCK, q8_0::Block::ZERO, &read, q8_0::Block::round)?)
            }
            Quantisation::Q4K => {
                let room = BlockQ4K::zeros();
                Values::Q4K(filled(rows, columns, BlockQ4K::BLCK_SIZE, room, &read, BlockQ4K::from_float)?)
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
            Values::Q4K(blocks) => {
                BlockQ4K::to_float(&blocks[first / BlockQ4K::BLCK_SIZE..end / BlockQ4K::BLCK_SIZE], out)
            }
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
            Values::Q4K(blocks) => {
                let per_row = self.columns / BlockQ4K::BLCK_SIZE;
                let rows = blocks[start / BlockQ4K::BLCK_SIZE..end / BlockQ4K::BLCK_SIZE].chunks_exact(per_row);
                for (row, out) in rows.zip(out.chunks_exact_mut(columns)) {
                    let tokens = inputs.q8_k.chunks_exact(per_row);
                    tokens.zip(out).for_each(|(x, y)| *y = BlockQ4K::vec_dot(self.columns, row, x));
                }
            }
        }
    }
}

impl Inputs {
    /// Prepares `tokens`, `[tokens, features]`, for products with `matrices`, which have `features` columns.
    pub(super) fn new(tokens: Vec<f32>, matrices: &[&Matrix]) -> Self {
        let columns = matrices.first().map_or(1, |m| m.columns).max(1);
        let mut inputs = Self { plain: tokens, q8_0: Vec::new(), q8_k: Vec::new() };
        if matrices.iter().any(|m| matches!(m.values, Values::Q8_0(_))) {
            inputs.q8_0 = inputs.plain.chunks_exact(columns).map(Rounded::new).collect();
        }
        if matrices.iter().any(|m| matches!(m.values, Values::Q4K(_))) {
            inputs.q8_k = vec![BlockQ8K::zeros(); inputs.plain.len() / BlockQ8K::BLCK_SIZE];
            BlockQ8K::from_float(&inputs.plain, &mut inputs.q8_k);
        }
        inputs
    }
}

/// A bf16 is the upper half of an f32.
#[inline(always)]
fn widened(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// Elements that hold `block` weights each: `convert` makes them from the f32 that `read` writes.
fn filled<E: Clone + Send>(
    rows: usize,
    columns: usize,
    block: usize,
    zero: E,
    read: &(impl Fn(Range<usize>, &mut [f32]) -> Result<()> + Sync),
    convert: impl Fn(&[f32], &mut [E]) + Sync,
) -> Result<Vec<E>> {
    let mut elements = vec![zero; rows * columns / block];
    let step = (CHUNK_WEIGHTS / columns.max(1)).max(1);
    let chunks = elements.par_chunks_mut((step * columns / block).max(1)).enumerate();
    chunks.try_for_each_init(Vec::new, |room, (chunk, out)| {
        let first = chunk * step;
        let range = first..(first + step).min(rows);
        room.resize(range.len() * columns, 0.0);
        read(range, room)?;
        convert(room, out);
        Ok::<_, Error>(())
    })?;
    Ok(elements)
}
