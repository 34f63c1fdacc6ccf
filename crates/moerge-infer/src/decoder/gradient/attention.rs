//! Attention as in [`super::super::attention`], and its backward pass.
//!
//! With `P = softmax(q k^T / sqrt(d))` and `o = P v`: `dv = P^T do`, `dP = do v^T`, `dS = P (dP - sum(dP P))`, `dq = dS
//! k / sqrt(d)`, `dk = dS^T q / sqrt(d)`. The backward pass computes `P` again, head by head: for a long sequence it is
//! larger than everything else.

use std::ops::Range;

use super::{
    group::Group,
    product::{Matrix, Rows},
    rms_norm::{Norm, rms_norm},
};
use crate::decoder::softmax::softmax;
use moerge_core::model::families::AttentionSpec;

/// The weights of a layer's attention.
pub(super) struct Attention {
    /// Projections q, k, v, o.
    pub projections: [Matrix; 4],
    /// The norms of q and k heads, if the layer has them.
    pub norms: Option<[Vec<f32>; 2]>,
    pub spec: AttentionSpec,
    /// Epsilon of the norms.
    pub eps: f64,
    /// The layer's index, by which a group knows its rotary angles.
    pub layer: usize,
}

/// Activations that the backward pass needs.
pub(super) struct Mixed {
    /// Rotated queries and keys, and values, `[tokens, heads * head_dim]`.
    q: Rows,
    k: Rows,
    v: Rows,
    /// State of the norms of q and k.
    norms: Option<[Norm; 2]>,
}

impl Attention {
    /// The output for `x`, the normalized residual stream `[tokens, hidden]`.
    pub fn forward(&self, x: &Rows, group: &Group) -> (Rows, Mixed) {
        let [q, k, v, o] = &self.projections;
        let (mut q, mut k, v) = (q.times(x), k.times(x), v.times(x));
        let norms = self
            .norms
            .as_ref()
            .map(|[q_norm, k_norm]| [rms_norm(&mut q, q_norm, self.eps), rms_norm(&mut k, k_norm, self.eps)]);
        rotate(&mut q, self.spec.head_dim, group.angles(self.layer), 1.0);
        rotate(&mut k, self.spec.head_dim, group.angles(self.layer), 1.0);
        let mixed = Mixed { q, k, v, norms };
        let mut out = Rows::zeros(group.ids.len(), mixed.q.columns);
        for range in &group.ranges {
            for head in 0..self.spec.heads {
                let kv = head / (self.spec.heads / self.spec.kv_heads);
                let values = mixed.v.block(range, kv, self.spec.head_dim);
                let probabilities = self.probabilities(&mixed, range, head);
                out.add_block(range, head, &probabilities.product(&values));
            }
        }
        (o.times(&out), mixed)
    }

    /// The gradient with respect to `x`, given that of the output.
    pub fn backward(&self, mixed: Mixed, group: &Group, grad: &Rows) -> Rows {
        let width = self.spec.head_dim;
        let [q, k, v, o] = &self.projections;
        let d_out = o.times_transposed(grad);
        let tokens = group.ids.len();
        let [mut dq, mut dk, mut dv] = [&mixed.q, &mixed.k, &mixed.v].map(|y| Rows::zeros(tokens, y.columns));
        let scale = 1.0 / (width as f32).sqrt();
        for range in &group.ranges {
            for head in 0..self.spec.heads {
                let kv = head / (self.spec.heads / self.spec.kv_heads);
                let p = self.probabilities(&mixed, range, head);
                let d_out = d_out.block(range, head, width);
                dv.add_block(range, kv, &p.transposed_product(&d_out));
                let mut ds = d_out.product_transposed(&mixed.v.block(range, kv, width));
                for (ds, p) in ds.rows_mut().zip(p.rows()) {
                    let mean: f32 = ds.iter().zip(p).map(|(d, p)| d * p).sum();
                    ds.iter_mut().zip(p).for_each(|(d, p)| *d = p * (*d - mean) * scale);
                }
                dq.add_block(range, head, &ds.product(&mixed.k.block(range, kv, width)));
                dk.add_block(range, kv, &ds.transposed_product(&mixed.q.block(range, head, width)));
            }
        }
        rotate(&mut dq, width, group.angles(self.layer), -1.0);
        rotate(&mut dk, width, group.angles(self.layer), -1.0);
        if let (Some([q_weight, k_weight]), Some([q_norm, k_norm])) = (&self.norms, &mixed.norms) {
            dq = q_norm.backward(q_weight, &dq);
            dk = k_norm.backward(k_weight, &dk);
        }
        let mut below = q.times_transposed(&dq);
        below.add(&k.times_transposed(&dk));
        below.add(&v.times_transposed(&dv));
        below
    }

    /// `softmax(q k^T / sqrt(d))` of a head for a sequence, `[tokens, tokens]`.
    fn probabilities(&self, mixed: &Mixed, range: &Range<usize>, head: usize) -> Rows {
        let width = self.spec.head_dim;
        let kv = head / (self.spec.heads / self.spec.kv_heads);
        let mut scores = mixed.q.block(range, head, width).product_transposed(&mixed.k.block(range, kv, width));
        for (query, row) in scores.rows_mut().enumerate() {
            let visible = self.spec.window.map_or(0, |w| (query + 1).saturating_sub(w))..query + 1;
            row[..visible.start].fill(0.0);
            row[visible.end..].fill(0.0);
            softmax(&mut row[visible], 1.0 / (width as f32).sqrt());
        }
        scores
    }
}

/// Rotary embeddings. A `sign` of -1 inverts the rotation, for gradients.
fn rotate(x: &mut Rows, head_dim: usize, [cos, sin]: &[Vec<f32>; 2], sign: f32) {
    let half = head_dim / 2;
    let angles = cos.chunks_exact(half.max(1)).zip(sin.chunks_exact(half.max(1)));
    for (row, (cos, sin)) in x.rows_mut().zip(angles) {
        for head in row.chunks_exact_mut(head_dim.max(1)) {
            let (first, second) = head.split_at_mut(half);
            for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                let sin = sign * sin;
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}
