//! Mistral.

use super::{
    Defaults, Family, GgufArchitecture, Names, Sizes,
    layers::{AttentionStyle, dense, layers},
    windows,
};

/// Mistral (arXiv 2310.06825): Llama with a sliding window in every layer, 4096 unless the config says otherwise, or
/// in the layers that `layer_types` names.
pub static MISTRAL: Family = Family {
    model_type: "mistral",
    defaults: Defaults {
        max_positions: 4096 * 32,
        sizes: Sizes { intermediate: 14_336, kv_heads: 8, ..Sizes::LLAMA },
        ..Defaults::LLAMA
    },
    names: Names::LLAMA,
    gguf: GgufArchitecture::Llama,
    layers: |config| layers(config, &AttentionStyle::default(), &windows::mistral(config)?, &dense(config)?),
};
