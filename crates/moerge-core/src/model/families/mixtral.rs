//! Mixtral.

use serde_json::json;

use super::{
    Defaults, Family, FfnSpec, GgufArchitecture, MoeFamily, Names, Sizes,
    layers::{AttentionStyle, experts, layers},
    windows,
};

pub(super) static FAMILY: Family = Family {
    model_type: "mixtral",
    defaults: Defaults {
        norm_eps: 1e-5,
        rope_theta: 1e6,
        max_positions: 4096 * 32,
        sizes: Sizes { intermediate: 14_336, kv_heads: 8, ..Sizes::LLAMA },
        ..Defaults::LLAMA
    },
    names: Names { block: "block_sparse_moe", expert: ["w1", "w3", "w2"], ..Names::LLAMA },
    gguf: GgufArchitecture::Llama,
    layers: |config| {
        let experts = experts(config, &["num_local_experts"], true, config.intermediate_size, None)?;
        let windows = windows::uniform(config, None)?;
        layers(config, &AttentionStyle::default(), &windows, &FfnSpec::Experts(experts))
    },
};

/// Mixtral (arXiv 2401.04088): softmax, top k, renormalised; Llama's attention, one window for all layers.
pub static MIXTRAL: MoeFamily = MoeFamily {
    family: &FAMILY,
    recipe_name: "mixtral",
    model_type: FAMILY.model_type,
    class: "MixtralForCausalLM",
    shared: None,
    limits: |_| None,
    write: |config, output| {
        config.insert("num_local_experts".into(), json!(output.shape.experts));
        config.insert("num_experts_per_tok".into(), json!(output.shape.top_k));
        config.insert("num_experts".into(), json!(output.shape.experts));
        config.insert("intermediate_size".into(), json!(output.shape.intermediate));
        config.insert("router_aux_loss_coef".into(), json!(0.001));
        config.insert("router_jitter_noise".into(), json!(0.0));
    },
};
