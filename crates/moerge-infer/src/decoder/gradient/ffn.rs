//! A gated FFN and its backward pass: with `h = act(gate u) * up u` and `y = down h`, `dh = down^T dy` and `du = gate^T
//! (dh up(u) act'(gate u)) + up^T (dh act(gate u))`.

use super::product::{Matrix, Rows};
use crate::decoder::{
    WeightRounding, Weights,
    gated::{activate, activate_and_multiply},
};
use moerge_core::{
    error::Result,
    model::families::{Activation, FfnMatrix, LayerRole, Role},
};

/// The weights of a gated FFN.
pub(super) struct Ffn {
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// The output, and the intermediate activations that the backward pass needs.
pub(super) struct Inner {
    gate: Rows,
    up: Rows,
    pub y: Rows,
}

impl Ffn {
    /// Reads the FFN of a dense model, or the first expert of an MoE.
    pub fn read(weights: &dyn Weights, layer: usize, rounding: Option<WeightRounding>) -> Result<Self> {
        let read = |m: FfnMatrix| {
            let dense = Role::Layer(layer, LayerRole::Ffn(m));
            let is_dense = weights.description().get(dense).is_some();
            let role = if is_dense { dense } else { Role::Layer(layer, LayerRole::Expert(0, m)) };
            Matrix::read(weights, role, None, rounding)
        };
        Ok(Self { gate: read(FfnMatrix::Gate)?, up: read(FfnMatrix::Up)?, down: read(FfnMatrix::Down)? })
    }

    pub fn forward(&self, activation: Activation, u: &Rows) -> Inner {
        let (gate, up) = (self.gate.times(u), self.up.times(u));
        let mut inner = gate.clone();
        activate_and_multiply(activation, &mut inner.values, &up.values);
        let y = self.down.times(&inner);
        Inner { gate, up, y }
    }

    /// The gradient with respect to `u`, given that of the output.
    pub fn backward(&self, activation: Activation, inner: Inner, grad: &Rows) -> Rows {
        let Inner { mut gate, mut up, .. } = inner;
        let d_inner = self.down.times_transposed(grad);
        for ((gate, up), d) in gate.values.iter_mut().zip(&mut up.values).zip(&d_inner.values) {
            (*gate, *up) = (d * *up * slope(activation, *gate), d * activate(activation, *gate));
        }
        let mut below = self.gate.times_transposed(&gate);
        below.add(&self.up.times_transposed(&up));
        below
    }
}

/// The derivative of the activation.
fn slope(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Silu => {
            let part = 1.0 / (1.0 + (-x).exp());
            part * (1.0 + x * (1.0 - part))
        }
        Activation::GeluTanh => {
            let scale = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
            let tanh = (scale * (x + 0.044715 * x * x * x)).tanh();
            0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * scale * (1.0 + 3.0 * 0.044715 * x * x)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_activations() {
        for activation in [Activation::Silu, Activation::GeluTanh] {
            for x in [-6.0f32, -1.5, -0.1, 0.0, 0.3, 2.0, 7.0] {
                let by = 1e-2;
                let found = (activate(activation, x + by) - activate(activation, x - by)) / (2.0 * by);
                assert!((found - slope(activation, x)).abs() < 1e-4, "{activation:?} {x}");
            }
        }
        assert_eq!(slope(Activation::Silu, -200.0), 0.0);
    }
}
