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

pub use super::{
    defaults::{Defaults, Sizes},
    layer_spec::{Activation, AttentionSpec, DecoderOptions, ExpertsSpec, FfnSpec, LayerSpec, SharedExpertOptions},
    role::{FfnMatrix, LayerRole, Projection, Role},
};

use std::path::Path;

use crate::{
    error::Result,
    model::{config::ModelConfig, unsupported::unsupported},
};
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

impl MoeFamily {
    /// All MoE families, in mergekit's order of preference.
    pub const ALL: [&'static Self; 4] = [&MIXTRAL, &DEEPSEEK, &QWEN2_MOE, &QWEN3_MOE];

    /// The family with this `model_type`.
    pub fn of(model_type: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|f| f.model_type == model_type)
    }
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

    /// The family of a model.
    ///
    /// # Errors
    /// moerge cannot read the model; the message says why.
    pub fn of(config: &ModelConfig) -> Result<&'static Self> {
        Self::named(&config.model_type)
            .ok_or_else(|| unsupported(&config.path, &config.model_type, config.part_of.as_deref()))
    }
}

impl ModelConfig {
    /// Parses the text of a `config.json`, with the defaults of its family's class; `path` is only for messages.
    ///
    /// # Errors
    /// It is not the config of a model that moerge may know, or a value is impossible.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        Self::parse_with(text, path, |model_type| Some(Family::named(model_type)?.defaults))
    }
}

/// Whether moerge knows this `model_type`. If so, a `config.json` that cannot be described is invalid, or has a feature
/// that the error names as [unsupported](crate::error::Error::unsupported).
pub fn is_known(model_type: &str) -> bool {
    Family::named(model_type).is_some()
}

#[cfg(test)]
mod tests;
