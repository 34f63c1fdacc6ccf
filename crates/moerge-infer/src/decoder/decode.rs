//! Attention of one new token over the KV cache. It is memory-bound, so plain loops over features are enough.

use rayon::prelude::*;

use super::{
    kv_cache::LayerCache,
    lanes::{dot, vectorised},
    softmax::softmax,
};
use moerge_core::model::families::AttentionSpec;

/// Number of cached values above which the heads are computed on several threads.
const MIN_PARALLEL: usize = 1 << 16;

/// `softmax(q k^T / sqrt(d)) v` for the query `[heads * head_dim]` of the last token in the cache.
pub(super) fn decode(spec: &AttentionSpec, q: &[f32], cache: &LayerCache) -> Vec<f32> {
    let (width, heads_per_kv) = (spec.head_dim, spec.heads / spec.kv_heads);
    let tokens = cache.keys.tokens();
    let seen = spec.window.map_or(0, |w| tokens.saturating_sub(w))..tokens;
    let mut mixed = vec![0.0; q.len()];
    let head = |(head, (q, out)): (usize, (&[f32], &mut [f32]))| {
        let first = head / heads_per_kv * width;
        let mut scores = vec![0.0f32; seen.len()];
        vectorised(
            #[inline(always)]
            || {
                for (feature, q) in (first..).zip(q) {
                    scores.iter_mut().zip(&cache.keys.feature(feature)[seen.clone()]).for_each(|(s, k)| *s += q * k);
                }
                softmax(&mut scores, 1.0 / (width as f32).sqrt());
                for (feature, out) in (first..).zip(out) {
                    *out = dot(&scores, &cache.values.feature(feature)[seen.clone()]);
                }
            },
        );
    };
    if seen.len() * q.len() < MIN_PARALLEL {
        q.chunks_exact(width).zip(mixed.chunks_exact_mut(width)).enumerate().for_each(head);
    } else {
        q.par_chunks_exact(width).zip(mixed.par_chunks_exact_mut(width)).enumerate().for_each(head);
    }
    mixed
}
