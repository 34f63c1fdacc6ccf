//! The MoE FFN of a layer: router, experts, and an optional shared expert.
//!
//! `sum over the top k of p_e expert_e(x)` with `p = softmax(W x)`, as in Mixtral (arXiv 2401.04088), Qwen2-MoE,
//! Qwen3-MoE and DeepSeek-MoE (arXiv 2401.06066). Each expert's matrices are read once and multiplied by the tokens
//! routed to it.

use std::ops::Range;

use super::{
    activations::Activations, gated::gated, matrices::Matrices, observer::Observer, routes::Routes, softmax::softmax,
};
use moerge_core::{
    error::Result,
    model::families::{
        ExpertsSpec, FfnMatrix,
        LayerRole::{self, Expert, Router, SharedExpert, SharedExpertGate},
        Role, SharedExpertOptions,
    },
};

/// The weights that [`route`] reads, in order.
pub(super) fn router_roles(shared: Option<SharedExpertOptions>) -> Vec<LayerRole> {
    let mut roles = vec![Router];
    roles.extend(shared.filter(|s| s.gated).map(|_| SharedExpertGate));
    roles
}

/// The weights that [`experts`] reads, in order.
pub(super) fn roles(experts: usize, shared: Option<SharedExpertOptions>) -> Vec<LayerRole> {
    let mut roles: Vec<_> = (0..experts).flat_map(|e| FfnMatrix::ALL.map(|m| Expert(e, m))).collect();
    if shared.is_some() {
        roles.extend(FfnMatrix::ALL.map(SharedExpert));
    }
    roles
}

/// Chooses the experts of every token of `x`, the normalized residual stream.
pub(super) fn route(
    matrices: &mut impl Matrices,
    spec: &ExpertsSpec,
    layer: usize,
    x: &Activations,
    observer: &mut dyn Observer,
) -> Result<Routes> {
    let [scores] = matrices.times([Role::Layer(layer, Router)], x)?;
    let experts = (0..x.tokens()).map(|token| top(scores.token(token), spec.top_k, spec.renormalise)).collect();
    let shared = match spec.shared {
        Some(SharedExpertOptions { gated: true, .. }) => {
            let [gate] = matrices.times([Role::Layer(layer, SharedExpertGate)], x)?;
            gate.feature(0).iter().map(|g| 1.0 / (1.0 + (-g).exp())).collect()
        }
        Some(_) => vec![1.0; x.tokens()],
        None => Vec::new(),
    };
    let mut routes = Routes { experts, shared };
    observer.routed(layer, &mut routes)?;
    Ok(routes)
}

/// The output of the experts of layer `layer` for `x`, the columns `tokens` of the normalized residual stream.
pub(super) fn experts(
    matrices: &mut impl Matrices,
    spec: &ExpertsSpec,
    layer: usize,
    x: &Activations,
    routes: &Routes,
    tokens: Range<usize>,
) -> Result<Activations> {
    // Per expert, the tokens routed to it and their weights.
    let mut chosen = vec![(Vec::new(), Vec::new()); spec.experts];
    for (token, choices) in routes.experts[tokens.clone()].iter().enumerate() {
        for (expert, weight) in choices {
            chosen[*expert].0.push(token);
            chosen[*expert].1.push(*weight);
        }
    }
    let mut y = Activations::zeros(x.features(), x.tokens());
    for (expert, (tokens, weights)) in chosen.into_iter().enumerate() {
        let roles = FfnMatrix::ALL.map(|m| Role::Layer(layer, Expert(expert, m)));
        if tokens.is_empty() {
            roles.into_iter().try_for_each(|role| matrices.skip(role))?;
        } else {
            y.add_scaled(&tokens, &weights, &gated(matrices, spec.activation, roles, &x.gather(&tokens))?);
        }
    }
    if let Some(weights) = routes.shared.get(tokens).filter(|weights| !weights.is_empty()) {
        let all: Vec<usize> = (0..x.tokens()).collect();
        let roles = FfnMatrix::ALL.map(|m| Role::Layer(layer, SharedExpert(m)));
        y.add_scaled(&all, weights, &gated(matrices, spec.activation, roles, x)?);
    }
    Ok(y)
}

/// The `top_k` most probable experts with their weights; ties go to the lower index.
fn top(mut scores: Vec<f32>, top_k: usize, renormalise: bool) -> Vec<(usize, f32)> {
    softmax(&mut scores, 1.0);
    let mut ranked: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(top_k);
    if renormalise {
        let sum: f32 = ranked.iter().map(|(_, p)| p).sum();
        ranked.iter_mut().for_each(|(_, p)| *p /= sum);
    }
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_experts_the_first_is_taken() {
        let experts = |chosen: Vec<(usize, f32)>| chosen.into_iter().map(|c| c.0).collect::<Vec<_>>();
        assert_eq!(experts(top(vec![1.0, 3.0, 3.0, 3.0], 2, true)), [1, 2]);
        assert_eq!(top(vec![0.0; 4], 2, true), [(0, 0.5), (1, 0.5)]);
        assert_eq!(top(vec![0.0; 4], 2, false), [(0, 0.25), (1, 0.25)]);
    }
}
