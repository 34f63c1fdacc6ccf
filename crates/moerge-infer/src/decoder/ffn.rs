//! The FFN of a layer: `down(act(gate x) * up x)`, either dense or as experts behind a router.

use std::ops::Range;

use super::{activations::Activations, experts, gated::gated, matrices::Matrices, observer::Observer, weights::bug};
use moerge_core::{
    error::Result,
    model::families::{FfnMatrix, FfnSpec, LayerRole, Role},
};

/// Tokens whose intermediate activations are in memory at once: 235 MB for Mistral-7B. The FFN's weights are read again
/// for every further block of tokens, which takes a hundredth of the time of the products.
pub(super) const FFN_TOKENS: usize = 2048;

/// The weights that [`ffn`] reads for `tokens` tokens, in order.
pub(super) fn roles(spec: &FfnSpec, layer: usize, tokens: usize) -> Vec<Role> {
    let passes = tokens.div_ceil(FFN_TOKENS);
    let (mut roles, again) = match spec {
        FfnSpec::Dense { .. } => (Vec::new(), FfnMatrix::ALL.map(LayerRole::Ffn).to_vec()),
        FfnSpec::Experts(spec) => (experts::router_roles(spec.shared), experts::roles(spec.experts, spec.shared)),
    };
    roles.extend(again.repeat(passes));
    roles.into_iter().map(|role| Role::Layer(layer, role)).collect()
}

/// The output of the FFN of layer `layer` for `x`, the normalized residual stream.
pub(super) fn ffn(
    matrices: &mut impl Matrices,
    layer: usize,
    x: &Activations,
    observer: &mut dyn Observer,
) -> Result<Activations> {
    let spec = matrices.options().layers.get(layer).map(|spec| spec.ffn.clone());
    let spec = spec.ok_or_else(|| bug(format!("a model without layer {layer}")))?;
    let routes = match &spec {
        FfnSpec::Dense { .. } => None,
        FfnSpec::Experts(spec) => Some((spec, experts::route(matrices, spec, layer, x, observer)?)),
    };
    let mut part = |tokens: Range<usize>, x: &Activations| match &routes {
        None => gated(matrices, spec.activation(), FfnMatrix::ALL.map(|m| Role::Layer(layer, LayerRole::Ffn(m))), x),
        Some((spec, routes)) => experts::experts(matrices, spec, layer, x, routes, tokens),
    };
    if x.tokens() <= FFN_TOKENS {
        return part(0..x.tokens(), x);
    }
    let mut y = Activations::zeros(x.features(), x.tokens());
    for range in x.token_chunks(FFN_TOKENS) {
        let tokens: Vec<usize> = range.clone().collect();
        let part = part(range, &x.gather(&tokens))?;
        y.add_scaled(&tokens, &vec![1.0; tokens.len()], &part);
    }
    Ok(y)
}
