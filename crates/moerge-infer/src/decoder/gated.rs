//! A gated FFN: `down(act(gate x) * up x)`.

use rayon::prelude::*;

use moerge_core::{
    error::Result,
    model::families::{Activation, Role},
};

use super::{activations::Activations, exp::exp, lanes::vectorised, matrices::Matrices};

/// Activations per parallel task.
const ACTIVATED: usize = 32 << 10;

/// The output of a gated FFN with the matrices `[gate, up, down]`.
pub(super) fn gated(
    matrices: &mut impl Matrices,
    activation: Activation,
    [gate, up, down]: [Role; 3],
    x: &Activations,
) -> Result<Activations> {
    let [mut inner, up] = matrices.times([gate, up], x)?;
    let pairs = inner.values_mut().par_chunks_mut(ACTIVATED).zip(up.values().par_chunks(ACTIVATED));
    pairs.for_each(|(x, up)| activate_and_multiply(activation, x, up));
    let [y] = matrices.times([down], &inner)?;
    Ok(y)
}

/// `x = act(x) * up`.
pub(super) fn activate_and_multiply(activation: Activation, x: &mut [f32], up: &[f32]) {
    vectorised(
        #[inline(always)]
        || match activation {
            Activation::Silu => x.iter_mut().zip(up).for_each(|(x, up)| *x = silu(*x) * up),
            Activation::GeluTanh => x.iter_mut().zip(up).for_each(|(x, up)| *x = gelu_tanh(*x) * up),
        },
    );
}

pub(super) fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Silu => silu(x),
        Activation::GeluTanh => gelu_tanh(x),
    }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `0.5 x (1 + tanh y)`, which is `x / (1 + e^-2y)`.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    let y = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2 * (x + 0.044715 * x * x * x);
    x / (1.0 + exp(-2.0 * y))
}
