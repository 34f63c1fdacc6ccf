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
    matmul::Operand,
    matrices::Matrices,
    norm::rms_norm_in_place,
    softmax::softmax,
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
pub(super) const QUERY_BLOCK: usize = 256;

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

    let heads = Heads { spec: &spec };
    let mut mixed = Activations::zeros(q.features(), q.tokens());
    match cache {
        None => {
            let (queries, keys, values) = (Operand::new(&q)?, Operand::new(&k)?, Operand::new(&v)?);
            for (range, earlier) in batch.ranges.iter().zip(&batch.earlier) {
                if earlier.is_empty() {
                    let seen = Seen { keys: &keys, values: &values, first: range.start, before: 0 };
                    heads.mix(&queries, range, &seen, &mut mixed)?;
                    continue;
                }
                let columns: Vec<usize> = earlier.iter().cloned().flatten().chain(range.clone()).collect();
                let (keys, values) = (Operand::new(&k.gather(&columns))?, Operand::new(&v.gather(&columns))?);
                let seen = Seen { keys: &keys, values: &values, first: 0, before: columns.len() - range.len() };
                heads.mix(&queries, range, &seen, &mut mixed)?;
            }
        }
        Some(cache) => {
            let queries = batch.ranges.iter().any(|range| range.len() > 1).then(|| Operand::new(&q)).transpose()?;
            for (sequence, range) in batch.slots.iter().zip(&batch.ranges) {
                let layer = cache.layer(*sequence, layer);
                layer.keys.append(&k, range.clone());
                layer.values.append(&v, range.clone());
                let Some(queries) = queries.as_ref().filter(|_| range.len() > 1) else {
                    mixed.set_token(range.start, &decode(&spec, &q.token(range.start), layer));
                    continue;
                };
                let (keys, values) = (layer.keys.to_activations(), layer.values.to_activations());
                let before = layer.keys.tokens() - range.len();
                let seen = Seen { keys: &Operand::new(&keys)?, values: &Operand::new(&values)?, first: 0, before };
                heads.mix(queries, range, &seen, &mut mixed)?;
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

/// The keys and values that a sequence's queries attend to, `[kv_heads * head_dim, ..]`. The sequence starts at column
/// `first`; its first `before` tokens precede the first query.
struct Seen<'a> {
    keys: &'a Operand,
    values: &'a Operand,
    first: usize,
    before: usize,
}

struct Heads<'a> {
    spec: &'a AttentionSpec,
}

impl Heads<'_> {
    /// `softmax(q k^T / sqrt(d)) v` for all heads and for the queries in `sequence`, written to their columns of
    /// `mixed`.
    fn mix(&self, q: &Operand, sequence: &Range<usize>, seen: &Seen<'_>, mixed: &mut Activations) -> Result<()> {
        let width = self.spec.head_dim;
        let columns = mixed.columns();
        let heads_per_kv = self.spec.heads / self.spec.kv_heads;
        let heads = mixed.values_mut().par_chunks_mut((width * columns).max(1)).enumerate();
        let block = |of: &Operand, head: usize, tokens: &Range<usize>| {
            of.block(head * width, width, tokens.start, tokens.len())
        };
        heads.try_for_each(|(head, out)| -> Result<()> {
            let kv = head / heads_per_kv;
            for first in sequence.clone().step_by(QUERY_BLOCK) {
                let queries = first..(first + QUERY_BLOCK).min(sequence.end);
                // Positions count from the sequence's first token. The block's first query determines the earliest key
                // that is needed; its last query, the latest.
                let position = |query: usize| query - sequence.start + seen.before;
                let furthest = |query: usize| self.spec.window.map_or(0, |w| (position(query) + 1).saturating_sub(w));
                let keys = furthest(first)..position(queries.end);
                let columns_of_keys = seen.first + keys.start..seen.first + keys.end;
                let mut scores =
                    block(q, head, &queries)?.transposed()?.times(&block(seen.keys, kv, &columns_of_keys)?)?;
                let scale = 1.0 / (width as f32).sqrt();
                for (query, row) in queries.clone().zip(scores.chunks_exact_mut(keys.len())) {
                    let visible = furthest(query) - keys.start..position(query) + 1 - keys.start;
                    row[..visible.start].fill(0.0);
                    row[visible.end..].fill(0.0);
                    softmax(&mut row[visible], scale);
                }
                let scores = Operand::from_rows(scores, keys.len())?;
                let values = block(seen.values, kv, &columns_of_keys)?.times(&scores.transposed()?)?;
                for (row, feature) in out.chunks_exact_mut(columns).zip(values.chunks_exact(queries.len())) {
                    row[queries.clone()].copy_from_slice(feature);
                }
            }
            Ok(())
        })
    }
}
