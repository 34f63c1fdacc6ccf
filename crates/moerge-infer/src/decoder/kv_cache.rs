//! The KV cache: keys and values of earlier tokens, so that only new tokens are computed.

use super::{activations::Activations, transpose::transposed_rows};
use moerge_core::model::families::DecoderOptions;

/// Initial capacity in tokens; it grows by half.
const FIRST_ROOM: usize = 128;
/// Values per cache line. The capacity is an odd number of lines, so that features do not all map to the same cache
/// sets.
const LINE: usize = 16;

/// The cache of several sequences.
pub struct KvCache {
    /// `[sequence][layer]`.
    sequences: Vec<Vec<LayerCache>>,
}

/// Keys and values of one layer, each `[kv_heads * head_dim, tokens]`.
#[derive(Clone, Default)]
pub(super) struct LayerCache {
    pub(super) keys: Strip,
    pub(super) values: Strip,
}

/// A growable matrix `[features, tokens]`.
#[derive(Clone, Default)]
pub(super) struct Strip {
    features: usize,
    tokens: usize,
    room: usize,
    values: Vec<f32>,
}

/// The capacity of a strip that holds this many tokens.
fn grown(tokens: usize) -> usize {
    (tokens + tokens / 2).max(FIRST_ROOM).next_multiple_of(2 * LINE) + LINE
}

impl KvCache {
    /// A cache of `sequences` empty sequences.
    pub fn new(options: &DecoderOptions, sequences: usize) -> Self {
        Self { sequences: vec![vec![LayerCache::default(); options.layers.len()]; sequences] }
    }

    /// An upper bound on the bytes of a sequence of this many tokens, however it grew.
    pub fn bytes(options: &DecoderOptions, tokens: usize) -> u64 {
        let room = if tokens <= grown(0) { grown(0) } else { grown(tokens) };
        let strips = 2 * options.layers.iter().map(|layer| layer.attention().kv_width()).sum::<usize>();
        (strips * room * size_of::<f32>()) as u64
    }

    /// The number of tokens of `sequence`.
    pub fn tokens(&self, sequence: usize) -> usize {
        self.sequences[sequence].first().map_or(0, |layer| layer.keys.tokens)
    }

    /// Keeps only the first `tokens` tokens of `sequence`.
    pub fn truncate(&mut self, sequence: usize, tokens: usize) {
        for layer in &mut self.sequences[sequence] {
            layer.keys.tokens = layer.keys.tokens.min(tokens);
            layer.values.tokens = layer.values.tokens.min(tokens);
        }
    }

    /// Replaces sequence `to` by a copy of `from`.
    pub fn copy(&mut self, from: usize, to: usize) {
        self.sequences[to] = self.sequences[from].clone();
    }

    pub(super) fn layer(&mut self, sequence: usize, layer: usize) -> &mut LayerCache {
        &mut self.sequences[sequence][layer]
    }
}

impl Strip {
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Feature `index` of every token.
    pub(super) fn feature(&self, index: usize) -> &[f32] {
        &self.values[index * self.room..][..self.tokens]
    }

    /// Appends the columns `columns` of `x`.
    pub(super) fn append(&mut self, x: &Activations, columns: std::ops::Range<usize>) {
        self.features = x.features();
        let tokens = self.tokens + columns.len();
        if tokens > self.room {
            let room = grown(tokens);
            let mut values = vec![0.0; self.features * room];
            if self.tokens > 0 {
                for (row, old) in values.chunks_exact_mut(room).zip(self.values.chunks_exact(self.room)) {
                    row[..self.tokens].copy_from_slice(&old[..self.tokens]);
                }
            }
            (self.room, self.values) = (room, values);
        }
        for (feature, row) in self.values.chunks_exact_mut(self.room).enumerate() {
            row[self.tokens..tokens].copy_from_slice(&x.feature(feature)[columns.clone()]);
        }
        self.tokens = tokens;
    }

    /// The values in rows of one feature, which are this far apart.
    pub(super) fn rows(&self) -> (&[f32], usize) {
        (&self.values, self.room)
    }

    /// A copy as `[tokens, features]`.
    pub(super) fn to_tokens(&self) -> Vec<f32> {
        transposed_rows(self.features, self.tokens, |feature| self.feature(feature))
    }
}
