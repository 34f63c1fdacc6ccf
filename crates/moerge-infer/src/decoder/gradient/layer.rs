//! A decoder layer in which a gate blends two FFNs: its forward and backward passes.
//!
//! With `s = sigmoid(v . u)` and `y = x + base + s (expert - base)`, the gradients of the FFN outputs are `(1 - s) dy`
//! and `s dy`; that of `v . u` is `dz = s (1 - s) dy . (expert - base)`, and that of the gate is `sum dz u`.

use super::{
    attention::Attention,
    ffn::Ffn,
    group::Group,
    product::{Matrix, Rows, vector},
    rms_norm::rms_norm,
};
use crate::decoder::{WeightRounding, Weights, weights::bug};
use moerge_core::{
    error::Result,
    model::families::{Activation, LayerRole, Projection, Role},
};

/// The weights of a layer, in f32.
pub(super) struct Layer {
    input_norm: Vec<f32>,
    attention: Attention,
    ffn_norm: Vec<f32>,
    base: Ffn,
    expert: Ffn,
    activation: Activation,
    eps: f64,
}

impl Layer {
    /// Reads layer `layer` of `model`, and the FFN of that layer of `base`.
    pub fn read(
        model: &dyn Weights,
        base: &dyn Weights,
        layer: usize,
        rounding: Option<WeightRounding>,
    ) -> Result<Self> {
        let spec = model.description().decoder.layers.get(layer);
        let spec = spec.ok_or_else(|| bug(format!("a model without layer {layer}")))?;
        let attention = spec.attention().clone();
        let role = |role| Role::Layer(layer, role);
        let projection = |index: usize| {
            let p = Projection::ALL[index];
            let bias = attention.biases[index].then(|| role(LayerRole::AttentionBias(p)));
            Matrix::read(model, role(LayerRole::Attention(p)), bias, rounding)
        };
        let head_norm = |norm| vector(model, role(norm));
        let norms = || -> Result<_> { Ok([head_norm(LayerRole::QNorm)?, head_norm(LayerRole::KNorm)?]) };
        Ok(Self {
            input_norm: vector(model, role(LayerRole::InputNorm))?,
            attention: Attention {
                projections: [projection(0)?, projection(1)?, projection(2)?, projection(3)?],
                norms: attention.qk_norm.then(norms).transpose()?,
                eps: spec.norm_eps(),
                layer,
                spec: attention,
            },
            ffn_norm: vector(model, role(LayerRole::FfnNorm))?,
            base: Ffn::read(base, layer, rounding)?,
            expert: Ffn::read(model, layer, rounding)?,
            activation: spec.ffn.activation(),
            eps: spec.norm_eps(),
        })
    }

    /// The output `[tokens, hidden]` for the input `x`.
    pub fn forward(&self, x: &Rows, group: &Group, gate: &[f32]) -> Rows {
        let mut u = x.clone();
        rms_norm(&mut u, &self.input_norm, self.eps);
        let mut x = x.clone();
        x.add(&self.attention.forward(&u, group).0);
        u.values.copy_from_slice(&x.values);
        rms_norm(&mut u, &self.ffn_norm, self.eps);
        let (base, expert) = (self.base.forward(self.activation, &u).y, self.expert.forward(self.activation, &u).y);
        for (((x, u), base), expert) in x.rows_mut().zip(u.rows()).zip(base.rows()).zip(expert.rows()) {
            let part = sigmoid(dot(u, gate));
            for ((x, base), expert) in x.iter_mut().zip(base).zip(expert) {
                *x += base + part * (expert - base);
            }
        }
        x
    }

    /// The gradients with respect to `x` and the gate, given that of the output.
    pub fn backward(&self, x: &Rows, group: &Group, gate: &[f32], grad: &Rows) -> (Rows, Vec<f32>) {
        let mut u = x.clone();
        let input_norm = rms_norm(&mut u, &self.input_norm, self.eps);
        let (attended, mixed) = self.attention.forward(&u, group);
        u.values.copy_from_slice(&x.values);
        u.add(&attended);
        drop(attended);
        let ffn_norm = rms_norm(&mut u, &self.ffn_norm, self.eps);
        let (base, expert) = (self.base.forward(self.activation, &u), self.expert.forward(self.activation, &u));

        let (mut to_base, mut to_expert) = (grad.clone(), grad.clone());
        let mut d_scores = Vec::with_capacity(group.ids.len());
        let rows = u.rows().zip(base.y.rows()).zip(expert.y.rows());
        for (((u, base), expert), (to_base, to_expert)) in rows.zip(to_base.rows_mut().zip(to_expert.rows_mut())) {
            let part = sigmoid(dot(u, gate));
            let gain: f32 = to_base.iter().zip(expert.iter().zip(base)).map(|(d, (e, b))| d * (e - b)).sum();
            d_scores.push(gain * part * (1.0 - part));
            to_base.iter_mut().for_each(|d| *d *= 1.0 - part);
            to_expert.iter_mut().for_each(|d| *d *= part);
        }
        let mut du = self.base.backward(self.activation, base, &to_base);
        du.add(&self.expert.backward(self.activation, expert, &to_expert));
        let mut d_gate = vec![0.0; gate.len()];
        for ((d, u), du) in d_scores.iter().zip(u.rows()).zip(du.rows_mut()) {
            d_gate.iter_mut().zip(u).for_each(|(sum, u)| *sum += d * u);
            du.iter_mut().zip(gate).for_each(|(du, v)| *du += d * v);
        }

        let mut below = ffn_norm.backward(&self.ffn_norm, &du);
        below.add(grad);
        let through = self.attention.backward(mixed, group, &below);
        below.add(&input_norm.backward(&self.input_norm, &through));
        (below, d_gate)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
