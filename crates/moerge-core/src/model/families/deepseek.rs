//! DeepSeek-MoE, the first generation, whose classes are remote code.

use serde_json::json;

use super::{
    Defaults, Family, FfnSpec, GgufArchitecture, MoeFamily, Names, SharedExpertOptions,
    layers::{AttentionStyle, dense_layers, experts, layers, need},
    moe_family::SharedExpertStyle,
};
use crate::model::rope::RopeScaling;

pub(super) static FAMILY: Family = Family {
    model_type: "deepseek",
    defaults: Defaults::LLAMA,
    names: Names { shared: "shared_experts", ..Names::LLAMA },
    gguf: GgufArchitecture::Deepseek,
    layers: |config| {
        if config.count("moe_layer_freq")?.is_some_and(|step| step != 1) {
            return Err(dense_layers(config, "moe_layer_freq"));
        }
        if config.count("first_k_dense_replace")?.is_some_and(|n| n > 0) {
            return Err(dense_layers(config, "first_k_dense_replace"));
        }
        let intermediate = need(config, "moe_intermediate_size")?;
        let shared = config.count("n_shared_experts")?.filter(|n| *n > 0);
        let shared = shared.map(|n| SharedExpertOptions { intermediate: n * intermediate, gated: false });
        let renormalise = config.flag("norm_topk_prob")?.unwrap_or(false);
        let keys = ["n_routed_experts", "num_local_experts"];
        let ffn = FfnSpec::Experts(experts(config, &keys, renormalise, intermediate, shared)?);
        // The classes do not support sliding windows.
        layers(config, &AttentionStyle::default(), &vec![None; config.layers], &ffn)
    },
};

/// DeepSeek-MoE (arXiv 2401.06066): an optional shared expert whose output is added unchanged.
pub static DEEPSEEK: MoeFamily = MoeFamily {
    family: &FAMILY,
    recipe_name: "deepseek moe",
    model_type: FAMILY.model_type,
    class: "DeepseekForCausalLM",
    shared: Some(SharedExpertStyle { gated: false, required: false }),
    limits: |base| {
        if base.head_dim * base.heads != base.hidden_size {
            return Some(format!("its heads are {} wide, and DeepSeek-MoE's are hidden_size / heads", base.head_dim));
        }
        match base.rope.scaling {
            RopeScaling::Default | RopeScaling::Linear { .. } | RopeScaling::Dynamic { .. } => None,
            _ => Some("DeepSeek-MoE's code supports linear and dynamic rope scaling only".into()),
        }
    },
    write: |config, output| {
        let shape = output.shape;
        let mut set = |key: &str, value| config.insert(key.to_owned(), value);
        set("n_routed_experts", json!(shape.experts));
        set("num_experts_per_tok", json!(shape.top_k));
        set("moe_intermediate_size", json!(shape.intermediate));
        set("n_shared_experts", json!(shape.shared.map(|width| width.div_ceil(shape.intermediate))));
        set("first_k_dense_replace", json!(0));
        set("moe_layer_freq", json!(1));
        set("scoring_func", json!("softmax"));
        set("norm_topk_prob", json!(true));
        let remote = "deepseek-ai/deepseek-moe-16b-base--";
        set(
            "auto_map",
            json!({
                "AutoConfig": format!("{remote}configuration_deepseek.DeepseekConfig"),
                "AutoModel": format!("{remote}modeling_deepseek.DeepseekModel"),
                "AutoModelForCausalLM": format!("{remote}modeling_deepseek.DeepseekForCausalLM"),
            }),
        );
    },
};
