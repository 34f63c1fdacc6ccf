//! Which of llama.cpp's architectures computes what a model computes, and what none does.

use super::GgufModel;
use crate::{
    error::{Error, Result},
    model::{
        families::{Activation, ExpertsSpec, FfnMatrix, LayerRole, Role},
        rope::RopeScaling,
    },
    ops::Expr,
};

/// An architecture of llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are llama.cpp's.
pub enum Architecture {
    Llama,
    Qwen2,
    Qwen2Moe,
    Qwen3,
    Qwen3Moe,
    Phi3,
    Deepseek,
}

impl Architecture {
    /// The architecture for a model, and what will be computed differently.
    ///
    /// # Errors
    /// There is none.
    pub fn of(model: &GgufModel) -> Result<(Self, Vec<String>)> {
        let family = model.config.model_type.as_str();
        let experts = model.description.decoder.experts();
        let architecture = match family {
            "llama" | "mistral" | "mixtral" => Self::Llama,
            "qwen2" => Self::Qwen2,
            "qwen3" => Self::Qwen3,
            "qwen3_moe" => Self::Qwen3Moe,
            "phi3" => Self::Phi3,
            "deepseek" => Self::Deepseek,
            "qwen2_moe" if renormalises(experts) && shared_expert_is_zero(model) => Self::Llama,
            "qwen2_moe" => Self::Qwen2Moe,
            _ => return Err(Error::input(format!("models of type {family} cannot be exported to GGUF")).unsupported()),
        };
        let gated = model.description.decoder.layers.iter().find(|layer| layer.ffn.activation() != Activation::Silu);
        if gated.is_some() {
            let message = format!("llama.cpp computes {} with SiLU", architecture.name());
            return Err(Error::input(message).fact("hidden_act", model.config.hidden_act.as_str()).unsupported());
        }
        let warnings = architecture.differences(model, experts);
        Ok((architecture, warnings))
    }

    /// llama.cpp's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen2Moe => "qwen2moe",
            Self::Qwen3 => "qwen3",
            Self::Qwen3Moe => "qwen3moe",
            Self::Phi3 => "phi3",
            Self::Deepseek => "deepseek",
        }
    }

    /// Whether rotary pairs are beside each other, and not in the two halves of a head.
    pub fn has_adjacent_pairs(self) -> bool {
        matches!(self, Self::Llama | Self::Deepseek)
    }

    /// Whether q, k, v are one tensor, and gate, up another.
    pub fn is_fused(self) -> bool {
        self == Self::Phi3
    }

    /// Whether it has a shared expert.
    pub fn has_shared_expert(self) -> bool {
        matches!(self, Self::Qwen2Moe | Self::Deepseek)
    }

    /// Whether it divides the weights of the experts that a token uses by their sum.
    fn renormalises(self) -> bool {
        matches!(self, Self::Llama | Self::Qwen3Moe)
    }

    fn differences(self, model: &GgufModel, experts: Option<&ExpertsSpec>) -> Vec<String> {
        let mut differences = Vec::new();
        if let Some(experts) = experts.filter(|experts| experts.top_k < experts.experts) {
            if experts.renormalise && !self.renormalises() {
                differences.push(format!(
                    "llama.cpp's {} does not renormalise the weights of the {} experts per token, as this model does: \
                     its FFNs will weigh less there. With as many experts per token as there are experts both agree",
                    self.name(),
                    experts.top_k
                ));
            }
            if !experts.renormalise && self.renormalises() {
                differences.push(format!(
                    "llama.cpp's {} renormalises the weights of the {} experts per token, unlike this model",
                    self.name(),
                    experts.top_k
                ));
            }
        }
        let window = model.description.decoder.windows().flatten().min();
        // It reads the key for phi3, but does not use it (llama.cpp's pull request 13676).
        if let Some(window) = window.filter(|window| *window < model.config.max_positions) {
            differences.push(format!(
                "llama.cpp's {} has no sliding window: beyond {window} tokens, what it computes differs from the model",
                self.name()
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
}

fn renormalises(experts: Option<&ExpertsSpec>) -> bool {
    experts.is_some_and(|experts| experts.renormalise && experts.top_k < experts.experts)
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
