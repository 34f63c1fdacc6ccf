//! A weight matrix that stays in memory, plain or in llama.cpp's block formats, and its products.
//!
//! Products with block formats use candle's inner loops: the activations are rounded to 8 bits per block, too, as
//! llama.cpp does. What is spread over threads is decided here, because a token alone has a thousand small products.

use std::sync::Mutex;

use candle_core::quantized::k_quants::{BlockQ4K, BlockQ8_0, GgmlType};
use half::bf16;
use rayon::prelude::*;

use super::{
    activations::Activations,
    dot::dot,
    linear::{CHUNK_WEIGHTS, chunks},
    matmul::{Operand, ScratchPool},
    weights::bug,
};
use crate::error::{Error, Result};

/// How weights are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    /// 32 bits per weight: as exact as it gets.
    F32,
    /// 16 bits.
    BF16,
    /// 8.5 bits: blocks of 32 with a scale.
    Q8_0,
    /// 4.5 bits: llama.cpp's Q4_K, in superblocks of 256. Rows that are no multiple of 256 are kept in Q8_0.
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
    Q8_0(Vec<BlockQ8_0>),
    Q4K(Vec<BlockQ4K>),
}

/// Multiplications that are worth waking a thread for.
const WORTH_A_THREAD: usize = 1 << 20;
/// Tokens up to which a product reads each weight once for every token, instead of going through blocked products.
const FEW_TOKENS: usize = 4;

impl Quantisation {
    /// All, with the names that users know.
    pub const TABLE: [(&'static str, Self); 4] =
        [("f32", Self::F32), ("bf16", Self::BF16), ("q8_0", Self::Q8_0), ("q4_k", Self::Q4K)];

    /// What rows of this length can be kept in.
    fn fitting(self, columns: usize) -> Self {
        let in_blocks = |of: usize| columns > 0 && columns.is_multiple_of(of);
        match self {
            Self::Q4K if in_blocks(BlockQ4K::BLCK_SIZE) => self,
            Self::Q4K | Self::Q8_0 if in_blocks(BlockQ8_0::BLCK_SIZE) => Self::Q8_0,
            Self::Q4K | Self::Q8_0 => Self::BF16,
            plain => plain,
        }
    }

    /// Bytes of a matrix kept so.
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
    /// Makes a matrix whose rows `read` gives: it is called for a range of rows with room for them, by several threads.
    pub(super) fn build(
        quantisation: Quantisation,
        (rows, columns): (usize, usize),
        read: impl Fn(std::ops::Range<usize>, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<Self> {
        let values = match quantisation.fitting(columns) {
            Quantisation::F32 => Values::F32(filled(rows, columns, 1, 0.0, &read, |x, out| out.copy_from_slice(x))?),
            Quantisation::BF16 => {
                let narrow = |x: &[f32], out: &mut [bf16]| {
                    out.iter_mut().zip(x).for_each(|(out, x)| *out = bf16::from_f32(*x));
                };
                Values::BF16(filled(rows, columns, 1, bf16::ZERO, &read, narrow)?)
            }
            Quantisation::Q8_0 => Values::Q8_0(blocks(rows, columns, &read)?),
            Quantisation::Q4K => Values::Q4K(blocks(rows, columns, &read)?),
        };
        Ok(Self { rows, columns, values })
    }

    /// Row `index` in f32.
    pub(super) fn row(&self, index: usize) -> Result<Vec<f32>> {
        if index >= self.rows {
            return Err(bug(format!("row {index} of a matrix of {} rows", self.rows)));
        }
        let mut row = vec![0.0; self.columns];
        match &self.values {
            Values::Q8_0(blocks) => to_float(blocks, self.columns, index, &mut row),
            Values::Q4K(blocks) => to_float(blocks, self.columns, index, &mut row),
            plain => plain.widen(index * self.columns, &mut row),
        }
        Ok(row)
    }

    /// `W x`.
    pub(super) fn times(&self, x: &Activations, scratches: &ScratchPool) -> Result<Activations> {
        match &self.values {
            Values::Q8_0(blocks) => Ok(self.times_blocks(blocks, x)),
            Values::Q4K(blocks) => Ok(self.times_blocks(blocks, x)),
            plain if x.tokens() <= FEW_TOKENS => Ok(self.times_few(plain, x)),
            plain => self.times_many(plain, x, scratches),
        }
    }

    fn times_blocks<B: GgmlType>(&self, blocks: &[B], x: &Activations) -> Activations {
        // Rows of weights and of activations are the same blocks long.
        let per_row = (self.columns / B::BLCK_SIZE).max(1);
        let tokens = x.to_tokens();
        let mut rounded = vec![B::VecDotType::zeros(); x.tokens() * per_row];
        for (x, out) in tokens.chunks_exact(self.columns.max(1)).zip(rounded.chunks_exact_mut(per_row)) {
            B::VecDotType::from_float(x, out);
        }
        self.by_rows(x.tokens(), |row, out, columns| {
            let weights = blocks[row * per_row..].chunks_exact(per_row);
            let mut rows = weights.zip(out.chunks_exact_mut(columns));
            while let Some((w0, y0)) = rows.next() {
                let (Some((w1, y1)), Some((w2, y2)), Some((w3, y3))) = (rows.next(), rows.next(), rows.next()) else {
                    // Less than four are left: they are taken one by one below.
                    break;
                };
                for (token, x) in rounded.chunks_exact(per_row).enumerate() {
                    (y0[token], y1[token], y2[token], y3[token]) = B::vec_dot_4(self.columns, w0, w1, w2, w3, x);
                }
            }
            let done = out.len() / columns / 4 * 4;
            for (row, out) in (row + done..).zip(out.chunks_exact_mut(columns).skip(done)) {
                let weights = &blocks[row * per_row..][..per_row];
                for (out, x) in out.iter_mut().zip(rounded.chunks_exact(per_row)) {
                    *out = B::vec_dot(self.columns, weights, x);
                }
            }
        })
    }

    fn times_few(&self, values: &Values, x: &Activations) -> Activations {
        let tokens = x.to_tokens();
        self.by_rows(x.tokens(), |first, out, columns| {
            let mut widened = vec![0.0; self.columns];
            for (row, out) in (first..).zip(out.chunks_exact_mut(columns)) {
                values.widen(row * self.columns, &mut widened);
                out.iter_mut().zip(tokens.chunks_exact(self.columns)).for_each(|(y, x)| *y = dot(&widened, x));
            }
        })
    }

    /// A product whose rows `some` computes: from a row on, as many as its second argument, `columns` wide, has room
    /// for. Small ones are not worth a second thread.
    fn by_rows(&self, tokens: usize, some: impl Fn(usize, &mut [f32], usize) + Sync) -> Activations {
        let mut y = Activations::zeros(self.rows, tokens);
        let columns = y.columns();
        let step = (WORTH_A_THREAD / (self.columns * tokens).max(1)).next_multiple_of(4);
        if step >= self.rows {
            some(0, y.values_mut(), columns.max(1));
        } else {
            let chunks = y.values_mut().par_chunks_mut(step * columns).enumerate();
            chunks.for_each(|(chunk, out)| some(chunk * step, out, columns));
        }
        y
    }

    fn times_many(&self, values: &Values, x: &Activations, scratches: &ScratchPool) -> Result<Activations> {
        let mut y = Activations::zeros(self.rows, x.tokens());
        let columns = y.columns();
        let x = Operand::new(x)?;
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        rayon::scope(|scope| {
            let mut rest = y.values_mut();
            for chunk in chunks(&(0..self.rows), self.columns) {
                let (out, after) = std::mem::take(&mut rest).split_at_mut(chunk.len() * columns);
                rest = after;
                let (x, failure) = (&x, &failure);
                scope.spawn(move |_| {
                    let shape = (chunk.len(), self.columns);
                    let fill = |w: &mut [f32]| {
                        values.widen(chunk.start * self.columns, w);
                        Ok(())
                    };
                    let room = CHUNK_WEIGHTS.max(self.columns);
                    if let Err(error) = scratches.with(room, |s| s.multiply(shape, fill, x, out)) {
                        super::keep_first(failure, error);
                    }
                });
            }
        });
        super::first_failure(failure)?;
        Ok(y)
    }
}

impl Values {
    /// The plain values from `first` on; block formats have their own way.
    fn widen(&self, first: usize, out: &mut [f32]) {
        match self {
            Self::F32(values) => out.copy_from_slice(&values[first..first + out.len()]),
            Self::BF16(values) => {
                let values = &values[first..first + out.len()];
                out.iter_mut().zip(values).for_each(|(out, x)| *out = x.to_f32());
            }
            Self::Q8_0(_) | Self::Q4K(_) => out.fill(f32::NAN),
        }
    }
}

fn to_float<B: GgmlType>(blocks: &[B], columns: usize, row: usize, out: &mut [f32]) {
    let per_row = columns / B::BLCK_SIZE;
    B::to_float(&blocks[row * per_row..(row + 1) * per_row], out);
}

fn blocks<B: GgmlType>(
    rows: usize,
    columns: usize,
    read: &(impl Fn(std::ops::Range<usize>, &mut [f32]) -> Result<()> + Sync),
) -> Result<Vec<B>> {
    filled(rows, columns, B::BLCK_SIZE, B::zeros(), read, |x, out| B::from_float(x, out))
}

/// Elements that stand for `block` weights each, made by `convert` of what `read` gives.
fn filled<E: Clone + Send>(
    rows: usize,
    columns: usize,
    block: usize,
    zero: E,
    read: &(impl Fn(std::ops::Range<usize>, &mut [f32]) -> Result<()> + Sync),
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
