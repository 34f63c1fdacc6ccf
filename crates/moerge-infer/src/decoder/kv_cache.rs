//! Keys and values of the tokens that a model has seen, so that a new token is computed alone.

use super::activations::Activations;
use moerge_core::model::families::DecoderOptions;

/// Tokens for which room is made at first; it grows by half from there.
const FIRST_ROOM: usize = 128;
/// Values of a cache line. Room is an odd number of these, so that features do not all want the same part of a cache.
const LINE: usize = 16;

/// What a model remembers of some sequences.
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

/// A matrix `[features, tokens]` that grows by tokens.
#[derive(Clone, Default)]
pub(super) struct Strip {
    features: usize,
    tokens: usize,
    room: usize,
    values: Vec<f32>,
}

/// The room made for a strip that has to hold this many tokens.
fn grown(tokens: usize) -> usize {
    (tokens + tokens / 2).max(FIRST_ROOM).next_multiple_of(2 * LINE) + LINE
}

impl KvCache {
    /// Room for `sequences` sequences that are empty as yet.
    pub fn new(options: &DecoderOptions, sequences: usize) -> Self {
        Self { sequences: vec![vec![LayerCache::default(); options.layers.len()]; sequences] }
    }

    /// Upper bound in bytes on a sequence of this many tokens, however it grew.
    pub(super) fn bytes(options: &DecoderOptions, tokens: usize) -> u64 {
        let room = if tokens <= grown(0) { grown(0) } else { grown(tokens) };
        let strips = 2 * options.layers.iter().map(|layer| layer.attention().kv_width()).sum::<usize>();
        (strips * room * size_of::<f32>()) as u64
    }

    /// Tokens of sequence `sequence`.
    pub fn tokens(&self, sequence: usize) -> usize {
        self.sequences[sequence].first().map_or(0, |layer| layer.keys.tokens)
    }

    /// Forgets all tokens of `sequence` but the first `tokens`.
    pub fn truncate(&mut self, sequence: usize, tokens: usize) {
        for layer in &mut self.sequences[sequence] {
            layer.keys.tokens = layer.keys.tokens.min(tokens);
            layer.values.tokens = layer.values.tokens.min(tokens);
        }
    }

    /// Makes `to` remember what `from` does.
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

    /// As a matrix of its own.
    pub(super) fn to_activations(&self) -> Activations {
        let mut x = Activations::zeros(self.features, self.tokens);
        let columns = x.columns();
        for (row, feature) in x.values_mut().chunks_exact_mut(columns).zip(0..) {
            row[..self.tokens].copy_from_slice(self.feature(feature));
        }
        x
    }
}
