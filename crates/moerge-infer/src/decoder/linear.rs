//! `y = W x` with `W` from the stream: chunk by chunk, each widened and multiplied by one thread while it is in its
//! cache.
//!
//! A matrix's chunks are independent rows of the result, so they may be computed in any order, and a chunk's size is a
//! constant: the result is the same to the last bit for any number of threads.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use super::{
    activations::Activations,
    forward::embeddings,
    matmul::{Operand, ScratchPool},
    matrices::Matrices,
    rounding::WeightRounding,
    stream::Stream,
};
use moerge_core::{
    error::Result,
    model::families::{DecoderOptions, Role},
};

/// Weights in a chunk of a small matrix, but at least a row: 512 KiB of f32, about a core's own cache.
pub(super) const CHUNK_WEIGHTS: usize = 128 << 10;
/// Weights in a chunk of a large one. A product packs all of `x` once more for every chunk: for 32 rows of 4096 that
/// takes as long as half the product, for 256 a tenth.
const MOST_CHUNK_WEIGHTS: usize = 1 << 20;
/// Chunks of a matrix, where that makes them neither smaller nor larger than said: for that many threads.
const CHUNKS: usize = 16;
/// Elements of a chunk's product, in which it is computed before it is copied to its place.
const MOST_PRODUCTS: usize = 4 << 20;

/// The stream of a pass and how it multiplies.
pub(super) struct Streamed<'s, 'w> {
    stream: &'s mut Stream<'w>,
    linear: Linear,
}

impl<'s, 'w> Streamed<'s, 'w> {
    pub(super) fn new(stream: &'s mut Stream<'w>, rounding: Option<WeightRounding>) -> Self {
        Self { stream, linear: Linear { rounding, ..Linear::default() } }
    }
}

impl Matrices for Streamed<'_, '_> {
    fn options(&self) -> &DecoderOptions {
        self.stream.options()
    }

    fn times<const N: usize>(&mut self, roles: [Role; N], x: &Activations) -> Result<[Activations; N]> {
        self.linear.apply(self.stream, roles, x)
    }

    fn vector(&mut self, role: Role) -> Result<Vec<f32>> {
        self.stream.vector(role)
    }

    fn skip(&mut self, role: Role) -> Result<()> {
        self.stream.skip(role)
    }

    fn embeddings(&mut self, ids: &[u32]) -> Result<Activations> {
        embeddings(self.stream.weights, ids)
    }
}

/// How a pass multiplies: the rounding it applies first, and the memory it does it in.
#[derive(Default)]
struct Linear {
    rounding: Option<WeightRounding>,
    scratches: ScratchPool,
}

impl Linear {
    /// `W x` for each `W` of `roles`, which are the next matrices of the stream.
    fn apply<const N: usize>(
        &self,
        stream: &mut Stream<'_>,
        roles: [Role; N],
        x: &Activations,
    ) -> Result<[Activations; N]> {
        let mut results = roles.map(|_| Activations::zeros(0, 0));
        for (role, y) in roles.into_iter().zip(&mut results) {
            *y = Activations::zeros(stream.shape(role)?.0, x.tokens());
        }
        let x = Operand::new(x)?;
        let failure = Mutex::new(None);
        // This thread takes tiles from the stream; the pool's threads multiply them. No tile waits for another.
        rayon::in_place_scope(|scope| -> Result<()> {
            for (role, y) in roles.into_iter().zip(&mut results) {
                let (rows, inputs) = stream.shape(role)?;
                let columns = y.columns();
                let step = chunk_rows((rows, inputs), columns);
                let mut rest = y.values_mut();
                let mut next = 0;
                while next < rows {
                    let tile = Arc::new(stream.next(role)?);
                    next = tile.rows.end;
                    for chunk in chunks(&tile.rows, step) {
                        let (out, after) = std::mem::take(&mut rest).split_at_mut(chunk.len() * columns);
                        rest = after;
                        let (tile, x, failure) = (tile.clone(), &x, &failure);
                        let weights = stream.weights;
                        scope.spawn(move |_| {
                            let shape = (chunk.len(), inputs);
                            let fill = |w: &mut [f32]| {
                                weights.widen(role, chunk.clone(), tile.bytes(chunk.clone()), w)?;
                                if let Some(rounding) = self.rounding.filter(|_| WeightRounding::applies_to(role)) {
                                    rounding.apply(w, inputs);
                                }
                                Ok(())
                            };
                            if let Err(error) = self.scratches.with(step * inputs, |s| s.multiply(shape, fill, x, out))
                            {
                                super::keep_first(failure, error);
                            }
                        });
                    }
                }
            }
            Ok(())
        })?;
        super::first_failure(failure)?;
        Ok(results)
    }
}

/// Rows of a matrix of this shape that are multiplied at once with `x` of so many columns.
pub(super) fn chunk_rows((rows, inputs): (usize, usize), columns: usize) -> usize {
    let weights = (rows * inputs / CHUNKS).clamp(CHUNK_WEIGHTS, MOST_CHUNK_WEIGHTS);
    (weights / inputs.max(1)).min(MOST_PRODUCTS / columns.max(1)).max(1)
}

/// Cuts rows into chunks of `step`.
pub(super) fn chunks(rows: &Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let rows = rows.clone();
    rows.clone().step_by(step).map(move |first| first..(first + step).min(rows.end))
}
