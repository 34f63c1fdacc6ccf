//! The FFN of a layer: `down(act(gate x) * up x)`, one dense or several behind a router.

use rayon::prelude::*;

use super::{activations::Activations, experts, linear::Linear, stream::Stream};
use crate::{
    architecture::{Activation, DecoderOptions, FfnMatrix, FfnOptions, LayerRole, Role},
    error::Result,
};

/// Tokens whose intermediate features exist at once: for Mistral-7B 235 MB. More tokens read the FFN's weights again,
/// which by then takes a hundredth of the time of multiplying them.
const FFN_TOKENS: usize = 2048;

/// What [`ffn`] takes from the stream for `tokens` tokens, in order.
pub(super) fn roles(options: &DecoderOptions, layer: usize, tokens: usize) -> Vec<Role> {
    let once = match &options.ffn {
        FfnOptions::Dense { .. } => FfnMatrix::ALL.map(LayerRole::Ffn).to_vec(),
        FfnOptions::Moe { experts, shared, .. } => experts::roles(*experts, *shared),
    };
    once.repeat(tokens.div_ceil(FFN_TOKENS)).into_iter().map(|role| Role::Layer(layer, role)).collect()
}

/// The FFN of layer `layer` over `x`, the normed residual stream.
pub(super) fn ffn(stream: &mut Stream<'_>, linear: &Linear, layer: usize, x: &Activations) -> Result<Activations> {
    let mut once = |x: &Activations| match &stream.options().ffn {
        FfnOptions::Dense { .. } => {
            gated(stream, linear, FfnMatrix::ALL.map(|m| Role::Layer(layer, LayerRole::Ffn(m))), x)
        }
        FfnOptions::Moe { .. } => experts::experts(stream, linear, layer, x),
    };
    if x.tokens() <= FFN_TOKENS {
        return once(x);
    }
    let mut y = Activations::zeros(x.features(), x.tokens());
    for tokens in x.token_chunks(FFN_TOKENS) {
        let tokens: Vec<usize> = tokens.collect();
        let part = once(&x.gather(&tokens))?;
        y.add_scaled(&tokens, &vec![1.0; tokens.len()], &part);
    }
    Ok(y)
}

/// A gated FFN whose matrices are `[gate, up, down]`.
pub(super) fn gated(
    stream: &mut Stream<'_>,
    linear: &Linear,
    [gate, up, down]: [Role; 3],
    x: &Activations,
) -> Result<Activations> {
    let [mut inner, up] = linear.apply(stream, [gate, up], x)?;
    let activation = stream.options().activation;
    let pairs = inner.values_mut().par_iter_mut().zip(up.values().par_iter()).with_min_len(4096);
    pairs.for_each(|(x, up)| *x = activate(activation, *x) * up);
    let [y] = linear.apply(stream, [down], &inner)?;
    Ok(y)
}

fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2 * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}
