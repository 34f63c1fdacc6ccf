//! The experts of a layer behind their router, and the shared expert beside them.
//!
//! `sum over the top k of p_e expert_e(x)`, `p = softmax(W x)`, as Mixtral (arXiv 2401.04088), Qwen2-MoE, Qwen3-MoE
//! and DeepSeek-MoE (arXiv 2401.06066) have it. Every expert's matrices pass once and meet the tokens that chose it.

use super::{activations::Activations, attention::softmax, ffn::gated, linear::Linear, stream::Stream, weights::bug};
use crate::{
    architecture::{
        FfnMatrix, FfnOptions,
        LayerRole::{self, Expert, Router, SharedExpert, SharedExpertGate},
        Role, SharedExpertOptions,
    },
    error::Result,
};

/// What [`experts`] takes from the stream, in order.
pub(super) fn roles(experts: usize, shared: Option<SharedExpertOptions>) -> Vec<LayerRole> {
    let mut roles = vec![Router];
    roles.extend((0..experts).flat_map(|e| FfnMatrix::ALL.map(|m| Expert(e, m))));
    if let Some(shared) = shared {
        if shared.gated {
            roles.push(SharedExpertGate);
        }
        roles.extend(FfnMatrix::ALL.map(SharedExpert));
    }
    roles
}

/// The experts of layer `layer` over `x`, the normed residual stream.
pub(super) fn experts(stream: &mut Stream<'_>, linear: &Linear, layer: usize, x: &Activations) -> Result<Activations> {
    let FfnOptions::Moe { experts, top_k, renormalise, shared, .. } = stream.options().ffn else {
        return Err(bug("a dense layer has no experts"));
    };
    let role = |role| Role::Layer(layer, role);
    let [scores] = linear.apply(stream, [role(Router)], x)?;
    // Per expert, the tokens that chose it and the weight each gives it.
    let mut chosen = vec![(Vec::new(), Vec::new()); experts];
    for token in 0..x.tokens() {
        for (expert, weight) in route(scores.token(token), top_k, renormalise) {
            chosen[expert].0.push(token);
            chosen[expert].1.push(weight);
        }
    }
    let mut y = Activations::zeros(x.features(), x.tokens());
    for (expert, (tokens, weights)) in chosen.into_iter().enumerate() {
        let matrices = FfnMatrix::ALL.map(|m| role(Expert(expert, m)));
        if tokens.is_empty() {
            matrices.into_iter().try_for_each(|m| stream.skip(m))?;
        } else {
            y.add_scaled(&tokens, &weights, &gated(stream, linear, matrices, &x.gather(&tokens))?);
        }
    }
    if let Some(shared) = shared {
        let weights = if shared.gated {
            let [gate] = linear.apply(stream, [role(SharedExpertGate)], x)?;
            gate.feature(0).iter().map(|g| 1.0 / (1.0 + (-g).exp())).collect()
        } else {
            vec![1.0; x.tokens()]
        };
        let all: Vec<usize> = (0..x.tokens()).collect();
        y.add_scaled(&all, &weights, &gated(stream, linear, FfnMatrix::ALL.map(|m| role(SharedExpert(m))), x)?);
    }
    Ok(y)
}

/// The `top_k` experts of largest probability with their weights; of equal ones the first.
fn route(mut scores: Vec<f32>, top_k: usize, renormalise: bool) -> Vec<(usize, f32)> {
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
        assert_eq!(experts(route(vec![1.0, 3.0, 3.0, 3.0], 2, true)), [1, 2]);
        assert_eq!(route(vec![0.0; 4], 2, true), [(0, 0.5), (1, 0.5)]);
        assert_eq!(route(vec![0.0; 4], 2, false), [(0, 0.25), (1, 0.25)]);
    }
}
