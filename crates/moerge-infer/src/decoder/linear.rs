//! `y = W x` with `W` from the weight stream. One thread converts a chunk of `W` to f32 and multiplies it while it is
//! in the core's cache.
//!
//! Chunks are independent rows of the result and their size does not depend on the machine, so the result is
//! bit-identical for any number of threads.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use super::{
    activations::Activations,
    embeddings::embeddings,
    matmul::{Panels, TILES, multiply},
    matrices::Matrices,
    rounding::WeightRounding,
    stream::{Stream, Tile},
    weights::Weights,
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
/// Elements of the product of a part: 1 MiB.
pub(super) const PART_PRODUCTS: usize = 256 << 10;

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

    fn parts(&mut self, role: Role, x: &Activations, each: &(dyn Fn(usize, &[f32]) + Sync)) -> Result<()> {
        self.linear.parts(self.stream, role, x, each)
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
                            let chunk = Chunk { role, inputs, rows: chunk, tile: &tile };
                            if let Err(error) = self.multiply(weights, &chunk, x, out, columns) {
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

    /// Calls `each` with parts of `W x`, where `W` is the next matrix of the stream ([`super::matrices`]).
    fn parts(
        &self,
        stream: &mut Stream<'_>,
        role: Role,
        x: &Activations,
        each: &(dyn Fn(usize, &[f32]) + Sync),
    ) -> Result<()> {
        let tokens = x.tokens();
        let x = Panels::of(x, 0..x.features(), 0..tokens);
        let (rows, inputs) = stream.shape(role)?;
        let step = part_rows((rows, inputs), tokens);
        let failure = Mutex::new(None);
        rayon::in_place_scope(|scope| -> Result<()> {
            let mut next = 0;
            while next < rows {
                let tile = Arc::new(stream.next(role)?);
                next = tile.rows.end;
                for rows in chunks(&tile.rows, step) {
                    let (tile, x, failure) = (tile.clone(), &x, &failure);
                    let weights = stream.weights;
                    scope.spawn(move |_| {
                        let mut out = vec![0.0; rows.len() * tokens];
                        let chunk = Chunk { role, inputs, rows, tile: &tile };
                        match self.multiply(weights, &chunk, x, &mut out, tokens) {
                            Ok(()) => each(chunk.rows.start, &out),
                            Err(error) => super::keep_first(failure, error),
                        }
                    });
                }
            }
            Ok(())
        })?;
        super::first_failure(failure)
    }

    /// Writes the product of a chunk with `x` to `out`, whose rows are `stride` apart.
    fn multiply(
        &self,
        weights: &dyn Weights,
        chunk: &Chunk<'_, '_>,
        x: &Panels,
        out: &mut [f32],
        stride: usize,
    ) -> Result<()> {
        let Chunk { role, inputs, ref rows, tile } = *chunk;
        let mut w = super::lock(&self.buffers).pop().unwrap_or_default();
        w.reserve_exact((rows.len() * inputs).saturating_sub(w.len()));
        w.resize(rows.len() * inputs, 0.0);
        weights.widen(role, rows.clone(), tile.bytes(rows.clone()), &mut w)?;
        if let Some(rounding) = self.rounding.filter(|_| WeightRounding::applies_to(role)) {
            rounding.apply(&mut w, inputs);
        }
        let read = |row: usize, part: Range<usize>, to: &mut [f32]| to.copy_from_slice(&w[row * inputs..][part]);
        multiply(rows.len(), read, x, out, stride);
        super::lock(&self.buffers).push(w);
        Ok(())
    }
}

/// Some rows of a tile.
struct Chunk<'t, 'w> {
    role: Role,
    /// Columns of the matrix.
    inputs: usize,
    rows: Range<usize>,
    tile: &'t Tile<'w>,
}

/// Rows per chunk of a matrix of this shape.
pub(super) fn chunk_rows((rows, inputs): (usize, usize)) -> usize {
    let weights = (rows * inputs / CHUNKS).clamp(CHUNK_WEIGHTS, MAX_CHUNK_WEIGHTS);
    whole_tiles(weights / inputs.max(1))
}

/// Rows per chunk if the chunk's product with this many tokens is to stay in a core's cache.
pub(super) fn part_rows(shape: (usize, usize), tokens: usize) -> usize {
    chunk_rows(shape).min(whole_tiles(PART_PRODUCTS / tokens.max(1))).max(TILES)
}

fn whole_tiles(rows: usize) -> usize {
    if rows > TILES { rows / TILES * TILES } else { rows.max(1) }
}

/// Cuts rows into chunks of `step`.
pub(super) fn chunks(rows: &Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let rows = rows.clone();
    rows.clone().step_by(step).map(move |first| first..(first + step).min(rows.end))
}
