//! Llama, and the many models that declare themselves one.

use super::{
    Defaults, Family, GgufArchitecture, Names,
    layers::{AttentionStyle, dense, layers},
};
use crate::error::Error;

/// Llama (arXiv 2302.13971): `LlamaConfig` has no sliding window; a stray key is ignored.
pub static LLAMA: Family = Family {
    model_type: "llama",
    defaults: Defaults::LLAMA,
    names: Names::LLAMA,
    gguf: GgufArchitecture::Llama,
    layers: |config| {
        if config.flag("mlp_bias")? == Some(true) {
            let message = format!("{}: its FFN has biases (`mlp_bias`)", config.path.display());
            return Err(Error::input(message).unsupported().hint("FFN biases are not supported"));
        }
        let bias = config.flag("attention_bias")?.unwrap_or(false);
        let style = AttentionStyle { biases: [bias; 4], qk_norm: false };
        layers(config, &style, &vec![None; config.layers], &dense(config)?)
    },
};
