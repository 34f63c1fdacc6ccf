//! `y = W x` with `W` from the weight stream. One thread converts a chunk of `W` to f32 and multiplies it while it is
//! in the core's cache.
//!
//! Chunks are independent rows of the result and their size does not depend on the machine, so the result is
//! bit-identical for any number of threads.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    activations::Activations,
    embeddings::embeddings,
    matmul::{Panels, TILES, multiply},
    matrices::Matrices,
    rounding::WeightRounding,
    stream::Stream,
};
use moerge_core::{
    error::Result,
    model::families::{DecoderOptions, Role},
};

/// Weights per chunk of a small matrix (at least one row): 512 KiB in f32, about the size of a core's own cache.
pub(super) const CHUNK_WEIGHTS: usize = 128 << 10;
/// Weights per chunk of a large one: all of `x` is read for every chunk, so it should not have too few rows.
const MAX_CHUNK_WEIGHTS: usize = 1 << 20;
/// Chunks per matrix within these limits, enough for this many threads.
const CHUNKS: usize = 16;

/// The weight stream of a pass as [`Matrices`].
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

/// How a pass multiplies: the rounding of the weights, and free buffers for chunks of them.
#[derive(Default)]
struct Linear {
    rounding: Option<WeightRounding>,
    buffers: Mutex<Vec<Vec<f32>>>,
}

impl Linear {
    /// `W x` for each `W` in `roles`, which are the next matrices of the stream.
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
        let x = Panels::of(x, 0..x.features(), 0..x.tokens());
        let failure = Mutex::new(None);
        // This thread takes tiles from the stream and the pool's threads multiply them, each independently.
        rayon::in_place_scope(|scope| -> Result<()> {
            for (role, y) in roles.into_iter().zip(&mut results) {
                let (rows, inputs) = stream.shape(role)?;
                let columns = y.columns();
                let step = chunk_rows((rows, inputs));
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
                            let mut w = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
                            w.resize(chunk.len() * inputs, 0.0);
                            match weights.widen(role, chunk.clone(), tile.bytes(chunk.clone()), &mut w) {
                                Ok(()) => {
                                    if let Some(rounding) = self.rounding.filter(|_| WeightRounding::applies_to(role)) {
                                        rounding.apply(&mut w, inputs);
                                    }
                                    let read = |row: usize, part: Range<usize>, to: &mut [f32]| {
                                        to.copy_from_slice(&w[row * inputs..][part]);
                                    };
                                    multiply(chunk.len(), read, x, out, columns);
                                }
                                Err(error) => super::keep_first(failure, error),
                            }
                            self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(w);
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

/// Rows per chunk of a matrix of this shape.
pub(super) fn chunk_rows((rows, inputs): (usize, usize)) -> usize {
    let weights = (rows * inputs / CHUNKS).clamp(CHUNK_WEIGHTS, MAX_CHUNK_WEIGHTS);
    let rows = (weights / inputs.max(1)).max(1);
    if rows > TILES { rows / TILES * TILES } else { rows }
}

/// Cuts rows into chunks of `step`.
pub(super) fn chunks(rows: &Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let rows = rows.clone();
    rows.clone().step_by(step).map(move |first| first..(first + step).min(rows.end))
}
