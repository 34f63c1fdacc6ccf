//! Causal self-attention with rotary embeddings, grouped key/value heads, and an optional sliding window per layer.
//!
//! `softmax(q k^T / sqrt(d)) v`, computed per sequence and head, in blocks of queries, so the full score matrix of a
//! long prompt is never in memory.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    activations::Activations,
    batch::{Angles, Batch},
    decode::decode,
    kv_cache::KvCache,
    matmul::{Panels, multiply},
    matrices::Matrices,
    norm::rms_norm_in_place,
    softmax::softmax_columns,
    weights::bug,
};
use moerge_core::{
    error::Result,
    model::families::{
        AttentionSpec,
        LayerRole::{Attention, AttentionBias, KNorm, QNorm},
        Projection, Role,
    },
};

/// Queries per block: a head's scores for this many are in memory at once.
pub(super) const QUERY_BLOCK: usize = 64;

/// The weights that [`attention`] reads, in order.
pub(super) fn roles(spec: &AttentionSpec, layer: usize) -> Vec<Role> {
    let [q, k, v, o] = Projection::ALL;
    let biases = |projections: &[Projection]| {
        let has = |p: &Projection| Projection::ALL.into_iter().zip(spec.biases).any(|(q, b)| q == *p && b);
        projections.iter().copied().filter(has).map(AttentionBias).collect::<Vec<_>>()
    };
    let mut roles = vec![Attention(q), Attention(k), Attention(v)];
    roles.extend(biases(&[q, k, v]));
    if spec.qk_norm {
        roles.extend([QNorm, KNorm]);
    }
    roles.push(Attention(o));
    roles.extend(biases(&[o]));
    roles.into_iter().map(|role| Role::Layer(layer, role)).collect()
}

/// Attention of layer `layer` over `x`, the normalized residual stream. Queries attend to the tokens of their sequence
/// in the batch and to the earlier ones in `cache`, to which the new keys and values are appended.
pub(super) fn attention(
    matrices: &mut impl Matrices,
    layer: usize,
    x: &Activations,
    batch: &Batch,
    cache: Option<&mut KvCache>,
) -> Result<Activations> {
    let (spec, eps) = matrices
        .options()
        .layers
        .get(layer)
        .map(|l| (l.attention().clone(), l.norm_eps()))
        .ok_or_else(|| bug(format!("a model without layer {layer}")))?;
    let angles = batch.angles(layer)?;
    let role = |role| Role::Layer(layer, role);
    let mut qkv = matrices.times([Projection::Q, Projection::K, Projection::V].map(|p| role(Attention(p))), x)?;
    for ((projection, has_bias), y) in Projection::ALL.into_iter().zip(spec.biases).zip(&mut qkv) {
        if has_bias {
            y.add_bias(&matrices.vector(role(AttentionBias(projection)))?);
        }
    }
    let [mut q, mut k, v] = qkv;
    if spec.qk_norm {
        rms_norm_in_place(&mut q, &matrices.vector(role(QNorm))?, eps);
        rms_norm_in_place(&mut k, &matrices.vector(role(KNorm))?, eps);
    }
    rotate(&mut q, spec.head_dim, angles);
    rotate(&mut k, spec.head_dim, angles);

    let mut mixed = Activations::zeros(q.features(), q.tokens());
    match cache {
        None => {
            let whole = if batch.earlier.iter().any(Vec::is_empty) { k.to_tokens() } else { Vec::new() };
            for (range, earlier) in batch.ranges.iter().zip(&batch.earlier) {
                if earlier.is_empty() {
                    let keys = &whole[range.start * k.features()..];
                    let seen = Seen { keys, values: &v.values()[range.start..], stride: v.columns(), before: 0 };
                    mix(&spec, &q, range, &seen, &mut mixed);
                    continue;
                }
                let columns: Vec<usize> = earlier.iter().cloned().flatten().chain(range.clone()).collect();
                let keys = k.gather(&columns).to_tokens();
                let values = v.gather(&columns);
                let before = columns.len() - range.len();
                let seen = Seen { keys: &keys, values: values.values(), stride: values.columns(), before };
                mix(&spec, &q, range, &seen, &mut mixed);
            }
        }
        Some(cache) => {
            for (sequence, range) in batch.slots.iter().zip(&batch.ranges) {
                let layer = cache.layer(*sequence, layer);
                layer.keys.append(&k, range.clone());
                layer.values.append(&v, range.clone());
                if range.len() == 1 {
                    mixed.set_token(range.start, &decode(&spec, &q.token(range.start), layer));
                    continue;
                }
                let (values, stride) = layer.values.rows();
                let before = layer.keys.tokens() - range.len();
                let seen = Seen { keys: &layer.keys.to_tokens(), values, stride, before };
                mix(&spec, &q, range, &seen, &mut mixed);
            }
        }
    }
    let [mut out] = matrices.times([role(Attention(Projection::O))], &mixed)?;
    if spec.biases[3] {
        out.add_bias(&matrices.vector(role(AttentionBias(Projection::O)))?);
    }
    Ok(out)
}

/// Rotary embeddings (arXiv 2104.09864) in Llama's layout: feature `i` of a head is paired with `i + head_dim / 2`.
fn rotate(x: &mut Activations, head_dim: usize, angles: &Angles) {
    let columns = x.columns();
    for head in x.values_mut().chunks_exact_mut((head_dim * columns).max(1)) {
        let (first, second) = head.split_at_mut(head_dim / 2 * columns);
        let pairs = first.iter_mut().zip(second);
        for ((a, b), (cos, sin)) in pairs.zip(angles.cos.values().iter().zip(angles.sin.values())) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

/// The keys and values that a sequence's queries attend to.
struct Seen<'a> {
    /// `[tokens, kv_heads * head_dim]`.
    keys: &'a [f32],
    /// `[kv_heads * head_dim, tokens]`, with this many elements between two features.
    values: &'a [f32],
    stride: usize,
    /// The number of tokens before the first query.
    before: usize,
}

/// `softmax(q k^T / sqrt(d)) v` for all heads and for the queries in the columns `sequence` of `q`, written to the same
/// columns of `mixed`.
fn mix(spec: &AttentionSpec, q: &Activations, sequence: &Range<usize>, seen: &Seen<'_>, mixed: &mut Activations) {
    let (width, kv_width, columns) = (spec.head_dim, spec.kv_width(), mixed.columns());
    let heads = mixed.values_mut().par_chunks_mut((width * columns).max(1)).enumerate();
    heads.for_each(|(head, out)| {
        let kv = head / (spec.heads / spec.kv_heads) * width;
        let mut scores = Vec::with_capacity(QUERY_BLOCK.min(sequence.len()) * (seen.before + sequence.len()));
        for first in sequence.clone().step_by(QUERY_BLOCK) {
            let queries = first..(first + QUERY_BLOCK).min(sequence.end);
            // Positions count from the sequence's first token. The block's first query determines the earliest key that
            // is needed; its last query, the latest.
            let position = first - sequence.start + seen.before;
            let start = spec.window.map_or(0, |w| (position + 1).saturating_sub(w));
            let keys = start..position + queries.len();
            // [keys, queries], so that the softmax of many queries is computed at once.
            scores.clear();
            scores.resize(keys.len() * queries.len(), 0.0);
            let key = |row: usize, part: Range<usize>, to: &mut [f32]| {
                to.copy_from_slice(&seen.keys[(start + row) * kv_width + kv..][part]);
            };
            let block = Panels::of(q, head * width..(head + 1) * width, queries.clone());
            multiply(keys.len(), key, &block, &mut scores, queries.len());
            // A key is seen by a contiguous range of the block's queries.
            let visible = |row: usize| {
                let after = (start + row).saturating_sub(position);
                let end = spec.window.map_or(queries.len(), |w| (start + row + w).saturating_sub(position));
                after..end.min(queries.len())
            };
            softmax_columns(&mut scores, queries.len(), 1.0 / (width as f32).sqrt(), visible);
            let value = |row: usize, part: Range<usize>, to: &mut [f32]| {
                to.copy_from_slice(&seen.values[(kv + row) * seen.stride + start..][part]);
            };
            multiply(width, value, &Panels::from_rows(&scores, queries.len()), &mut out[queries.start..], columns);
        }
    });
}
