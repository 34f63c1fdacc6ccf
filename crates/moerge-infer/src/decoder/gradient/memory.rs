//! The memory needed to train gates, from shapes alone.

use super::{super::weights::matrix_shape, group::GROUP_TOKENS, product::SLAB};
use crate::decoder::stream::tile_rows;
use moerge_core::model::families::{Description, LayerRole, Role, RoleTensor};

const F32: u64 = 4;
/// Matrices `[tokens, intermediate]` in memory at once per FFN: intermediate activations, their gradients, and copies.
const INNER: u64 = 5;
/// Matrices `[tokens, tokens]` per attention head.
const SCORES: u64 = 6;
/// Matrices as wide as the residual stream or the queries.
const STREAM: u64 = 24;

/// The memory of [`super::Blend`] in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GradientMemory {
    /// All weights in f32.
    weights: u64,
    /// The largest part of the weights that is in memory if they are read in every step.
    part: u64,
    /// The inputs of all layers for all tokens of a step.
    inputs: u64,
    /// Activations and gradients of one group of sequences.
    group: u64,
    /// Maximum number of groups in parallel.
    threads: u64,
}

/// The memory for blending `model` with the FFNs of `base`, in steps of at most `tokens` tokens in sequences of at most
/// `longest` tokens, on `threads` threads.
pub fn gradient_memory(
    model: &Description,
    base: &Description,
    tokens: usize,
    longest: usize,
    threads: usize,
) -> GradientMemory {
    let options = &model.decoder;
    let elements = |t: &RoleTensor| {
        let (rows, columns) = matrix_shape(t);
        (rows * columns) as u64
    };
    // One expert of an MoE, without routers and shared experts.
    let used = |t: &&RoleTensor| match t.role {
        Role::Layer(_, LayerRole::Expert(e, _)) => e == 0,
        Role::Layer(_, LayerRole::Router | LayerRole::SharedExpert(_) | LayerRole::SharedExpertGate) => false,
        Role::Embeddings => options.tied_embeddings,
        _ => true,
    };
    let is_ffn = |t: &&RoleTensor| matches!(t.role, Role::Layer(_, LayerRole::Ffn(_) | LayerRole::Expert(0, _)));
    let both = || model.tensors.iter().filter(used).chain(base.tensors.iter().filter(is_ffn));
    let of_layer = |t: &&RoleTensor| matches!(t.role, Role::Layer(0, _));
    let layer: u64 = both().filter(of_layer).map(elements).sum();
    let tile = (tile_rows(options.hidden) * options.hidden) as u64;
    let inner: u64 = both().filter(of_layer).filter(is_ffn).map(|t| t.shape.first().copied().unwrap_or(0) as u64).sum();
    // Gate and up have one row each per intermediate feature, and down has `hidden` rows.
    let inner = inner.saturating_sub(2 * options.hidden as u64) / 2;

    let (hidden, longest) = (options.hidden as u64, longest as u64);
    let group_tokens = (GROUP_TOKENS as u64).max(longest);
    let q_width = options.layers.iter().map(|layer| layer.attention().q_width()).max().unwrap_or(0);
    let width = hidden.max(q_width as u64);
    let scores = SCORES * longest * longest;
    // The part of a matrix that is copied to be multiplied transposed, and its product.
    let columns = both().filter(of_layer).filter_map(|t| t.shape.get(1)).copied().max().unwrap_or(0) as u64;
    let transposed = (SLAB as u64 + group_tokens) * columns;
    let group = group_tokens * (INNER * inner + STREAM * width) + scores + transposed;
    let head = group_tokens * (3 * tile_rows(options.hidden).min(options.vocabulary) as u64) + transposed;
    GradientMemory {
        weights: F32 * both().map(elements).sum::<u64>(),
        part: F32 * layer.max(tile),
        inputs: F32 * tokens as u64 * hidden * (options.layers.len() as u64 + 6),
        group: F32 * group.max(head),
        threads: threads.max(1) as u64,
    }
}

impl GradientMemory {
    /// The minimum: the weights of one layer and one group at a time.
    pub fn min(&self) -> u64 {
        self.part + self.inputs + self.group
    }

    /// The bytes if all weights are kept and all threads are used.
    pub fn keeping(&self) -> u64 {
        self.weights + self.inputs + self.threads * self.group
    }

    /// The bytes that are used if `memory` bytes are available.
    pub fn within(&self, memory: u64) -> u64 {
        let keeps = self.keeping() <= memory;
        let weights = if keeps { self.weights } else { self.part };
        weights + self.inputs + self.at_once(keeps, memory) as u64 * self.group
    }

    /// How many groups there is room for, at least one.
    pub(super) fn at_once(&self, keeps: bool, memory: u64) -> usize {
        let weights = if keeps { self.weights } else { self.part };
        let room = memory.saturating_sub(weights + self.inputs) / self.group.max(1);
        room.clamp(1, self.threads) as usize
    }
}
