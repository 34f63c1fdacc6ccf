//! The MoE families that moerge writes: their names in recipes and their `config.json`.

use serde_json::{Map, Value, json};

use super::{Description, Family};
use crate::{error::Result, model::config::ModelConfig};

/// An MoE family that moerge writes.
#[derive(Debug)]
pub struct MoeFamily {
    /// How it is read.
    pub family: &'static Family,
    /// Its name in a recipe's `architecture` (mergekit's names, compared by prefix).
    pub recipe_name: &'static str,
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// `architectures[0]` in `config.json`.
    pub class: &'static str,
    /// Its shared expert, if it supports one.
    pub(super) shared: Option<SharedExpertStyle>,
    /// Why the family's classes cannot run a model with this base's attention although its tensors fit.
    pub(super) limits: fn(&ModelConfig) -> Option<String>,
    /// Adds the family's own keys to a `config.json` with the common keys.
    pub(super) write: fn(&mut Map<String, Value>, &MoeOutput<'_>),
}

/// A family's shared expert.
#[derive(Debug)]
pub(super) struct SharedExpertStyle {
    /// Whether it has a gate (`shared_expert_gate`).
    pub gated: bool,
    /// Whether the family requires one.
    pub required: bool,
}

/// The sizes that an MoE adds to its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoeShape {
    /// Routed experts.
    pub experts: usize,
    /// Experts per token.
    pub top_k: usize,
    /// Width of the routed experts.
    pub intermediate: usize,
    /// Width of the shared expert, if there is one.
    pub shared: Option<usize>,
}

/// An MoE whose `config.json` is being written.
pub(super) struct MoeOutput<'a> {
    /// The base.
    pub base: &'a ModelConfig,
    /// The base's window, layer by layer.
    pub windows: &'a [Option<usize>],
    /// What the MoE adds.
    pub shape: &'a MoeShape,
}

impl MoeFamily {
    /// Whether the family always has a shared expert.
    pub fn needs_shared_expert(&self) -> bool {
        self.shared.as_ref().is_some_and(|s| s.required)
    }

    /// Whether the family supports a shared expert, and whether it has a gate.
    pub fn shared_expert_gate(&self) -> Option<bool> {
        self.shared.as_ref().map(|s| s.gated)
    }

    /// Why the family's classes cannot run a model with this base's attention although its tensors fit.
    pub fn limit(&self, base: &ModelConfig) -> Option<String> {
        (self.limits)(base)
    }

    /// All tensors of a model of this family.
    ///
    /// # Errors
    /// The config asks for something that moerge does not support.
    pub fn describe(&self, config: &ModelConfig) -> Result<Description> {
        self.family.describe(config)
    }

    /// The `config.json` of an MoE of this family on `base`: the base's keys verbatim, and those of the MoE.
    ///
    /// `windows` are the base's, per layer; `dtype` is transformers' name. RoPE and dtype are written in the spellings
    /// of transformers 4 and 5.
    pub fn config(
        &self,
        base: &ModelConfig,
        windows: &[Option<usize>],
        shape: &MoeShape,
        dtype: &str,
    ) -> Map<String, Value> {
        let mut config = base.raw.clone();
        for key in ["_name_or_path", "auto_map", "transformers_version", "layer_types"] {
            config.shift_remove(key);
        }
        let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
        set("architectures", json!([self.class]));
        set("model_type", json!(self.model_type));
        set("head_dim", json!(base.head_dim));
        set("num_key_value_heads", json!(base.kv_heads));
        set("rms_norm_eps", json!(base.norm_eps));
        set("hidden_act", json!(base.hidden_act));
        set("max_position_embeddings", json!(base.max_positions));
        set("sliding_window", json!(windows.iter().find_map(|w| *w)));
        set("tie_word_embeddings", json!(false));
        set("dtype", json!(dtype));
        set("torch_dtype", json!(dtype));
        (self.write)(&mut config, &MoeOutput { base, windows, shape });
        write_rope(&mut config, base);
        config
    }
}

/// The sizes and windows that both Qwen MoEs write.
pub(super) fn write_qwen(config: &mut Map<String, Value>, output: &MoeOutput<'_>) {
    let shape = output.shape;
    let mut set = |key: &str, value| config.insert(key.to_owned(), value);
    set("num_experts", json!(shape.experts));
    set("num_experts_per_tok", json!(shape.top_k));
    set("num_local_experts", json!(shape.experts));
    set("moe_intermediate_size", json!(shape.intermediate));
    let first = output.windows.iter().position(Option::is_some);
    set("use_sliding_window", json!(first.is_some()));
    // The first layer with a window, for readers that do not know `layer_types`. Their default is 28, and a base that
    // is not a Qwen may have any value here.
    set("max_window_layers", json!(first.unwrap_or(output.base.layers)));
}

/// Keys with the same value in both Qwen MoEs for any base.
pub(super) fn write_qwen_constants(config: &mut Map<String, Value>) {
    let mut set = |key: &str, value| config.insert(key.to_owned(), value);
    set("decoder_sparse_step", json!(1));
    set("mlp_only_layers", json!([]));
    set("norm_topk_prob", json!(true));
    set("output_router_logits", json!(false));
    set("router_aux_loss_coef", json!(0.001));
}

/// Both spellings: `rope_theta` with `rope_scaling`, and `rope_parameters`.
fn write_rope(config: &mut Map<String, Value>, base: &ModelConfig) {
    let rope = &base.rope;
    // Keep the spelling of the file, `10000` or `10000.0`, if it is the value that counts.
    let written = base.raw.get("rope_theta").filter(|theta| theta.as_f64() == Some(rope.theta));
    let theta = written.cloned().unwrap_or(json!(rope.theta));
    let mut parameters = Map::new();
    parameters.insert("rope_theta".into(), theta.clone());
    parameters.insert("rope_type".into(), json!("default"));
    // Older files call it `type`.
    parameters.extend(rope.raw.get("type").map(|kind| ("rope_type".to_owned(), kind.clone())));
    parameters.extend(rope.raw.clone());
    let scaling = if rope.raw.is_empty() { Value::Null } else { Value::Object(rope.raw.clone()) };
    config.insert("rope_theta".into(), theta);
    config.insert("rope_scaling".into(), scaling);
    config.insert("rope_parameters".into(), Value::Object(parameters));
}
