//! Which of llama.cpp's architectures computes what a model computes, and what none does.

use super::GgufModel;
use crate::{
    error::{Error, Result},
    model::{
        families::{Activation, ExpertsSpec, Family, FfnMatrix, GgufArchitecture, LayerRole, Role},
        rope::RopeScaling,
    },
    ops::Expr,
};

/// The architecture for a model, and what it computes differently.
///
/// # Errors
/// llama.cpp has no architecture for the model.
pub fn choose(model: &GgufModel) -> Result<(GgufArchitecture, Vec<String>)> {
    let experts = model.description.decoder.experts();
    let own = Family::of(&model.config)?.gguf;
    let architecture = if is_llama(own, model, experts) { GgufArchitecture::Llama } else { own };
    let gated = model.description.decoder.layers.iter().find(|layer| layer.ffn.activation() != Activation::Silu);
    if gated.is_some() {
        let message = format!("llama.cpp computes {} with SiLU", architecture.name());
        return Err(Error::input(message).fact("hidden_act", model.config.hidden_act.as_str()).unsupported());
    }
    let warnings = differences(architecture, model, experts);
    Ok((architecture, warnings))
}

/// Whether `llama` computes the model, and its own architecture does not: llama has the biases of Qwen2's attention, it
/// renormalises, and it needs no shared expert.
fn is_llama(own: GgufArchitecture, model: &GgufModel, experts: Option<&ExpertsSpec>) -> bool {
    let Some(experts) = experts else { return false };
    let some = experts.top_k < experts.experts;
    match own {
        GgufArchitecture::Qwen2Moe => some && experts.renormalise && shared_expert_is_zero(model),
        // Weights of all experts have the sum 1 as they are.
        GgufArchitecture::Deepseek => experts.shared.is_none() && (experts.renormalise || !some),
        _ => false,
    }
}

fn differences(own: GgufArchitecture, model: &GgufModel, experts: Option<&ExpertsSpec>) -> Vec<String> {
    let mut differences = Vec::new();
    if let Some(experts) = experts.filter(|experts| experts.top_k < experts.experts) {
        if experts.renormalise && !own.renormalises() {
            differences.push(format!(
                "llama.cpp's {} does not renormalise the weights of the {} experts per token, as this model does: \
                     its FFNs will weigh less there. With as many experts per token as there are experts both agree",
                own.name(),
                experts.top_k
            ));
        }
        if !experts.renormalise && own.renormalises() {
            differences.push(format!(
                "llama.cpp's {} renormalises the weights of the {} experts per token, unlike this model",
                own.name(),
                experts.top_k
            ));
        }
    }
    let window = model.description.decoder.windows().flatten().min();
    // It reads the key for phi3, but does not use it (llama.cpp's pull request 13676).
    if let Some(window) = window.filter(|window| *window < model.config.max_positions) {
        differences.push(format!(
            "llama.cpp's {} has no sliding window: beyond {window} tokens, what it computes differs from the model",
            own.name()
        ));
    }
    if matches!(model.config.rope.scaling, RopeScaling::Dynamic { .. }) {
        differences.push(
            "llama.cpp has no dynamic rope scaling: contexts longer than the original are computed differently"
                .to_owned(),
        );
    }
    differences
}

/// Whether the shared expert adds nothing: moerge writes zeros for it where a recipe has none.
fn shared_expert_is_zero(model: &GgufModel) -> bool {
    let down = |layer| model.weight(Role::Layer(layer, LayerRole::SharedExpert(FfnMatrix::Down)));
    (0..model.layers()).all(|layer| down(layer).is_ok_and(|expr| is_zero(&expr)))
}

fn is_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Fill { value, .. } => *value == 0.0,
        Expr::View(view) => {
            let mut bytes = vec![0; 1 << 20];
            (0..view.len).step_by(1 << 20).all(|offset| {
                let bytes = &mut bytes[..(view.len - offset).min(1 << 20) as usize];
                view.read_at(offset, bytes).is_ok() && bytes.iter().all(|byte| *byte == 0)
            })
        }
        _ => false,
    }
}
