//! Qwen3.

use super::{
    Defaults, Family, GgufArchitecture, Names, Sizes,
    layers::{AttentionStyle, dense, layers},
    windows,
};

/// Qwen3 (arXiv 2505.09388): q and k heads are normalized; windows as in Qwen2.
pub static QWEN3: Family = Family {
    model_type: "qwen3",
    defaults: Defaults {
        max_positions: 32768,
        sizes: Sizes { intermediate: 22_016, vocabulary: 151_936, ..Sizes::LLAMA },
        ..Defaults::LLAMA
    },
    names: Names::LLAMA,
    gguf: GgufArchitecture::Qwen3,
    layers: |config| {
        let bias = config.flag("attention_bias")?.unwrap_or(false);
        let windows = windows::by_layer(config, |layer, max_window_layers| layer >= max_window_layers)?;
        layers(config, &AttentionStyle { biases: [bias; 4], qk_norm: true }, &windows, &dense(config)?)
    },
};
