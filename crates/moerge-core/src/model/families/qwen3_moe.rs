//! Qwen3-MoE.

use serde_json::json;

use super::{
    Defaults, Family, FfnSpec, GgufArchitecture, MoeFamily, Names, Sizes,
    layers::{AttentionStyle, experts, layers, need},
    moe_family::{write_qwen, write_qwen_constants},
    qwen2_moe::check_sparse,
    windows,
};

pub(super) static FAMILY: Family = Family {
    model_type: "qwen3_moe",
    defaults: Defaults {
        max_positions: 32768,
        sizes: Sizes { hidden: 2048, intermediate: 6144, layers: 24, heads: 32, kv_heads: 4, vocabulary: 151_936 },
        ..Defaults::LLAMA
    },
    names: Names::LLAMA,
    gguf: GgufArchitecture::Qwen3Moe,
    layers: |config| {
        check_sparse(config)?;
        let experts = experts(
            config,
            &["num_experts", "num_local_experts"],
            config.flag("norm_topk_prob")?.unwrap_or(false),
            need(config, "moe_intermediate_size")?,
            None,
        )?;
        let bias = config.flag("attention_bias")?.unwrap_or(false);
        let style = AttentionStyle { biases: [bias; 4], qk_norm: true };
        // The class has one window for all layers, and ignores `max_window_layers` and `layer_types`.
        let windows = vec![windows::qwen(config)?; config.layers];
        layers(config, &style, &windows, &FfnSpec::Experts(experts))
    },
};

/// Qwen3-MoE (arXiv 2505.09388): Qwen3's attention, no shared expert, one window for all layers.
pub static QWEN3_MOE: MoeFamily = MoeFamily {
    family: &FAMILY,
    recipe_name: "qwen3 moe",
    model_type: FAMILY.model_type,
    class: "Qwen3MoeForCausalLM",
    shared: None,
    limits: |_| None,
    write: |config, output| {
        write_qwen(config, output);
        write_qwen_constants(config);
        let bias = output.base.flag("attention_bias").ok().flatten().unwrap_or(false);
        config.insert("attention_bias".into(), json!(bias));
    },
};
