//! The families of models that moerge can read, one file each.
//!
//! A family's file gives its tensor names by role, the [`LayerSpec`] of every layer, and the rules of its config class
//! (defaults, sliding windows). [`describe()`] is the only way from a `config.json` to names and shapes: a model is
//! read, run, planned and verified by the same [`Description`]. Whether a Mixture of Experts can represent a dense
//! family is another question, answered in [`crate::plan`].

mod deepseek;
mod describe;
mod find;
mod gguf;
mod layers;
mod llama;
mod mistral;
mod mixtral;
mod moe_family;
mod names;
mod phi3;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod stored;
mod unsupported;
mod windows;

pub use deepseek::DEEPSEEK;
pub use describe::{Description, FusedPart, RoleTensor, describe};
pub use gguf::GgufArchitecture;
pub use llama::LLAMA;
pub use mistral::MISTRAL;
pub use mixtral::MIXTRAL;
pub use moe_family::{MoeFamily, MoeShape};
pub use phi3::PHI3;
pub use qwen2::QWEN2;
pub use qwen2_moe::QWEN2_MOE;
pub use qwen3::QWEN3;
pub use qwen3_moe::QWEN3_MOE;
pub use unsupported::unsupported;

pub use super::{
    layer_spec::{Activation, AttentionSpec, DecoderOptions, ExpertsSpec, FfnSpec, LayerSpec, SharedExpertOptions},
    role::{FfnMatrix, LayerRole, Projection, Role},
};

use crate::{error::Result, model::config::ModelConfig};
use names::Names;

/// A family: the rules of its config class, and its tensor names.
#[derive(Debug)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The defaults of the config class.
    pub defaults: Defaults,
    /// Tensor names.
    names: Names,
    /// What computes it in llama.cpp.
    pub gguf: GgufArchitecture,
    /// The layers for a `config.json` of the family.
    layers: fn(&ModelConfig) -> Result<Vec<LayerSpec>>,
}

/// Defaults of a config class for keys that are absent from `config.json`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// `rms_norm_eps`.
    pub norm_eps: f64,
    /// `rope_theta`.
    pub rope_theta: f64,
    /// `max_position_embeddings`.
    pub max_positions: usize,
    /// `tie_word_embeddings`.
    pub tied_embeddings: bool,
    /// Sizes that may be absent from the text part of a multimodal model, because transformers saves only values that
    /// differ from the class defaults. In other configs a missing size is an error.
    pub sizes: Sizes,
}

/// The default sizes of a config class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    /// `hidden_size`.
    pub hidden: usize,
    /// `intermediate_size`.
    pub intermediate: usize,
    /// `num_hidden_layers`.
    pub layers: usize,
    /// `num_attention_heads`.
    pub heads: usize,
    /// `num_key_value_heads`.
    pub kv_heads: usize,
    /// `vocab_size`.
    pub vocabulary: usize,
}

impl Sizes {
    /// The defaults of `LlamaConfig`: Llama 7B.
    pub const LLAMA: Self =
        Self { hidden: 4096, intermediate: 11_008, layers: 32, heads: 32, kv_heads: 32, vocabulary: 32_000 };

    /// The sizes by their keys in `config.json`.
    pub fn by_key(self) -> [(&'static str, usize); 6] {
        [
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("vocab_size", self.vocabulary),
        ]
    }
}

impl Defaults {
    /// The defaults of `LlamaConfig`, also used for unknown families.
    pub const LLAMA: Self =
        Self { norm_eps: 1e-6, rope_theta: 10_000.0, max_positions: 2048, tied_embeddings: false, sizes: Sizes::LLAMA };
}

impl Family {
    /// All families.
    pub const ALL: [&'static Self; 9] = [
        &LLAMA,
        &MISTRAL,
        &PHI3,
        &QWEN2,
        &QWEN3,
        &mixtral::FAMILY,
        &deepseek::FAMILY,
        &qwen2_moe::FAMILY,
        &qwen3_moe::FAMILY,
    ];

    /// The family with this `model_type`.
    pub fn named(model_type: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|f| f.model_type == model_type)
    }

    /// The family of a model; the error says why moerge cannot read it.
    pub fn of(config: &ModelConfig) -> Result<&'static Self> {
        Self::named(&config.model_type)
            .ok_or_else(|| unsupported(&config.path, &config.model_type, config.part_of.as_deref()))
    }
}

/// Whether moerge knows this `model_type`. If so, a `config.json` that cannot be described is invalid, or has a feature
/// that the error names as [unsupported](crate::error::Error::unsupported).
pub fn is_known(model_type: &str) -> bool {
    Family::named(model_type).is_some()
}

#[cfg(test)]
mod tests;
