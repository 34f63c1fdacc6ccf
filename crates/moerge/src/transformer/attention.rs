//! Causal self-attention with rotary positions, grouped key/value heads, and a sliding window where a layer has one.
//!
//! `softmax(q k^T / sqrt(d)) v`, prompt by prompt and head by head. Queries go in blocks, so that the scores of a long
//! prompt never exist all at once.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    activations::Activations, batch::Batch, linear::Linear, matmul::Operand, norm::rms_norm_in_place, stream::Stream,
};
use crate::{
    architecture::{
        DecoderOptions,
        LayerRole::{Attention, AttentionBias, KNorm, QNorm},
        Projection, Role,
    },
    error::Result,
};

/// Queries whose scores exist at once, per head.
const QUERY_BLOCK: usize = 256;

/// What [`attention`] takes from the stream, in order.
pub(super) fn roles(options: &DecoderOptions, layer: usize) -> Vec<Role> {
    let [q, k, v, o] = Projection::ALL;
    let biases = |projections: &[Projection]| {
        let has = |p: &Projection| Projection::ALL.into_iter().zip(options.attention_bias).any(|(q, b)| q == *p && b);
        projections.iter().copied().filter(has).map(AttentionBias).collect::<Vec<_>>()
    };
    let mut roles = vec![Attention(q), Attention(k), Attention(v)];
    roles.extend(biases(&[q, k, v]));
    if options.qk_norm {
        roles.extend([QNorm, KNorm]);
    }
    roles.push(Attention(o));
    roles.extend(biases(&[o]));
    roles.into_iter().map(|role| Role::Layer(layer, role)).collect()
}

/// Attention of layer `layer` over `x`, the normed residual stream.
pub(super) fn attention(
    stream: &mut Stream<'_>,
    linear: &Linear,
    layer: usize,
    x: &Activations,
    batch: &Batch,
) -> Result<Activations> {
    let options = stream.options();
    let role = |role| Role::Layer(layer, role);
    let mut qkv = linear.apply(stream, [Projection::Q, Projection::K, Projection::V].map(|p| role(Attention(p))), x)?;
    for ((projection, has_bias), y) in Projection::ALL.into_iter().zip(options.attention_bias).zip(&mut qkv) {
        if has_bias {
            y.add_bias(&stream.vector(role(AttentionBias(projection)))?);
        }
    }
    let [mut q, mut k, v] = qkv;
    if options.qk_norm {
        rms_norm_in_place(&mut q, &stream.vector(role(QNorm))?, options.norm_eps);
        rms_norm_in_place(&mut k, &stream.vector(role(KNorm))?, options.norm_eps);
    }
    rotate(&mut q, options.head_dim, batch);
    rotate(&mut k, options.head_dim, batch);

    let mixed = mix(options, options.windows[layer], &q, &k, &v, &batch.ranges)?;
    let [mut out] = linear.apply(stream, [role(Attention(Projection::O))], &mixed)?;
    if options.attention_bias[3] {
        out.add_bias(&stream.vector(role(AttentionBias(Projection::O)))?);
    }
    Ok(out)
}

/// Rotary positions (arXiv 2104.09864) as Llama has them: feature `i` of a head is paired with `i + head_dim / 2`.
fn rotate(x: &mut Activations, head_dim: usize, batch: &Batch) {
    let columns = x.columns();
    for head in x.values_mut().chunks_exact_mut((head_dim * columns).max(1)) {
        let (first, second) = head.split_at_mut(head_dim / 2 * columns);
        let pairs = first.iter_mut().zip(second);
        for ((a, b), (cos, sin)) in pairs.zip(batch.cos.values().iter().zip(batch.sin.values())) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

/// `softmax(q k^T / sqrt(d)) v` for all heads and sequences.
fn mix(
    options: &DecoderOptions,
    window: Option<usize>,
    q: &Activations,
    k: &Activations,
    v: &Activations,
    sequences: &[Range<usize>],
) -> Result<Activations> {
    let width = options.head_dim;
    let mut mixed = Activations::zeros(q.features(), q.tokens());
    let columns = mixed.columns();
    let (q, k, v) = (Operand::new(q)?, Operand::new(k)?, Operand::new(v)?);
    let heads_per_kv = options.heads / options.kv_heads;
    let heads = mixed.values_mut().par_chunks_mut((width * columns).max(1)).enumerate();
    heads.try_for_each(|(head, out)| -> Result<()> {
        let kv = head / heads_per_kv;
        for sequence in sequences {
            for first in sequence.clone().step_by(QUERY_BLOCK) {
                let queries = first..(first + QUERY_BLOCK).min(sequence.end);
                // The first query of the block sees this far back, the last one no further than itself.
                let seen = window.map_or(sequence.start, |w| sequence.start.max((first + 1).saturating_sub(w)));
                let keys = seen..queries.end;
                let block = |of: &Operand, head: usize, tokens: &Range<usize>| {
                    of.block(head * width, width, tokens.start, tokens.len())
                };
                let mut scores = block(&q, head, &queries)?.transposed()?.times(&block(&k, kv, &keys)?)?;
                let scale = 1.0 / (width as f32).sqrt();
                for (query, row) in queries.clone().zip(scores.chunks_exact_mut(keys.len())) {
                    let from = window.map_or(keys.start, |w| keys.start.max((query + 1).saturating_sub(w)));
                    row[..from - keys.start].fill(0.0);
                    row[query + 1 - keys.start..].fill(0.0);
                    softmax(&mut row[from - keys.start..query + 1 - keys.start], scale);
                }
                let scores = Operand::from_rows(scores, keys.len())?;
                let values = block(&v, kv, &keys)?.times(&scores.transposed()?)?;
                for (row, feature) in out.chunks_exact_mut(columns).zip(values.chunks_exact(queries.len())) {
                    row[queries.clone()].copy_from_slice(feature);
                }
            }
        }
        Ok(())
    })?;
    Ok(mixed)
}

/// `softmax(scale * row)` in place.
pub(super) fn softmax(row: &mut [f32], scale: f32) {
    let largest = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let mut sum = 0.0f32;
    for x in row.iter_mut() {
        *x = ((*x - largest) * scale).exp();
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x /= sum);
}
