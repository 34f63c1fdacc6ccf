//! Qwen2-MoE (Qwen1.5-MoE, Qwen2-57B-A14B).

use serde_json::json;

use super::{
    Defaults, Family, FfnSpec, GgufArchitecture, MoeFamily, Names, SharedExpertOptions, Sizes,
    layers::{AttentionStyle, dense_layers, experts, layers, need},
    moe_family::{SharedExpertStyle, write_qwen, write_qwen_constants},
    qwen2::QKV_BIAS,
    windows,
};
use crate::{error::Result, model::config::ModelConfig};

/// Refuses configs in which some layers have a dense FFN.
pub(super) fn check_sparse(config: &ModelConfig) -> Result<()> {
    if config.count("decoder_sparse_step")?.is_some_and(|step| step != 1) {
        return Err(dense_layers(config, "decoder_sparse_step"));
    }
    let dense = config.raw.get("mlp_only_layers").and_then(|layers| layers.as_array());
    if dense.is_some_and(|layers| !layers.is_empty()) {
        return Err(dense_layers(config, "mlp_only_layers"));
    }
    Ok(())
}

pub(super) static FAMILY: Family = Family {
    model_type: "qwen2_moe",
    defaults: Defaults {
        max_positions: 32768,
        sizes: Sizes { hidden: 2048, intermediate: 5632, layers: 24, heads: 16, kv_heads: 16, vocabulary: 151_936 },
        ..Defaults::LLAMA
    },
    names: Names::LLAMA,
    gguf: GgufArchitecture::Qwen2Moe,
    layers: |config| {
        check_sparse(config)?;
        let shared = need(config, "shared_expert_intermediate_size")?;
        let experts = experts(
            config,
            &["num_experts", "num_local_experts"],
            config.flag("norm_topk_prob")?.unwrap_or(false),
            need(config, "moe_intermediate_size")?,
            Some(SharedExpertOptions { intermediate: shared, gated: true }),
        )?;
        let bias = config.flag("qkv_bias")?.unwrap_or(true);
        let style = AttentionStyle { biases: QKV_BIAS.map(|has| has && bias), qk_norm: false };
        // Without `layer_types`, every other layer below `max_window_layers` has a window, unlike in Qwen2.
        let windows =
            windows::by_layer(config, |layer, max_window_layers| layer % 2 == 0 && layer < max_window_layers)?;
        layers(config, &style, &windows, &FfnSpec::Experts(experts))
    },
};

/// Qwen2-MoE: Qwen2's attention, and always a gated shared expert. Each layer may have its own window.
pub static QWEN2_MOE: MoeFamily = MoeFamily {
    family: &FAMILY,
    recipe_name: "qwen moe",
    model_type: FAMILY.model_type,
    class: "Qwen2MoeForCausalLM",
    shared: Some(SharedExpertStyle { gated: true, required: true }),
    limits: |_| None,
    write: |config, output| {
        write_qwen(config, output);
        if let Some(width) = output.shape.shared {
            config.insert("shared_expert_intermediate_size".into(), json!(width));
        }
        if output.windows.iter().any(Option::is_some) {
            let kind = |window: &Option<usize>| if window.is_some() { "sliding_attention" } else { "full_attention" };
            config.insert("layer_types".into(), output.windows.iter().map(kind).collect());
        }
        write_qwen_constants(config);
        config.insert("qkv_bias".into(), json!(true));
    },
};
