//! Errors for models that moerge cannot read.

use std::path::Path;

use crate::{error::Error, suggest::shorten};

/// The error for an unknown `model_type`. `part_of` is the type of the multimodal model if this is its text part.
pub fn unsupported(path: &Path, model_type: &str, part_of: Option<&str>) -> Error {
    let (path, reason) = (path.display(), reason(model_type));
    let named = shorten(model_type);
    let what = match part_of {
        Some(whole) => format!("a multimodal {} model whose text part is {named}", shorten(whole)),
        None => format!("a {named} model"),
    };
    Error::input(format!("{path} describes {what}, which moerge cannot read: {reason}"))
        .hint(
            "supported: Llama, Mistral, Phi-3, Qwen2, Qwen3, Mixtral, DeepSeek-MoE, Qwen2-MoE, Qwen3-MoE, and models \
             that declare one of these as their `model_type`",
        )
        .unsupported()
}

/// The unsupported feature.
fn reason(model_type: &str) -> &'static str {
    match model_type {
        "deepseek_v2" | "deepseek_v3" => "its attention keeps keys and values compressed (MLA)",
        "olmoe" | "phimoe" | "granitemoe" | "gpt_oss" => "this family of Mixture of Experts is not supported",
        "phi" | "gptj" | "gpt_neox" | "codegen" => {
            "attention and FFN run in parallel, its norms are LayerNorm and its FFN is not gated"
        }
        "gpt2" | "opt" | "bloom" | "starcoder2" | "falcon" | "mpt" => {
            "its FFN is not gated and its norms are LayerNorm"
        }
        "gemma2" => "it has an attention softcap, and norms after attention and FFN",
        "gemma3" | "gemma3_text" | "gemma3n" | "gemma3n_text" => "it has norms after attention and FFN, and two ropes",
        "glm4" | "exaone4" => "it has norms after attention and FFN",
        "olmo3" => "it has norms after attention and FFN",
        "llama4" | "llama4_text" | "smollm3" => "some of its layers have no position embeddings (NoPE)",
        "qwen3_5" | "qwen3_5_text" | "qwen3_5_moe" | "qwen3_5_moe_text" | "qwen3_next" => {
            "most of its layers have linear attention"
        }
        "qwen2_vl" | "qwen2_5_vl" | "qwen3_vl" | "qwen2_vl_text" | "qwen2_5_vl_text" | "qwen3_vl_text" => {
            "its rotary positions have three axes (mrope)"
        }
        "stablelm" | "nemotron" | "arcee" | "apertus" => "its norms or its FFN's activation are not supported",
        "mamba" | "mamba2" | "rwkv" | "jamba" => "it is not a plain transformer",
        "granite" | "olmo" | "olmo2" | "gemma" | "ernie4_5" | "cohere2" | "ministral" | "ministral3" => {
            "the family is not supported yet"
        }
        _ => "the family is not known",
    }
}
