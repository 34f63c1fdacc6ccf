//! Qwen2 and Qwen2.5.

use super::{
    Defaults, Family, GgufArchitecture, Names, Sizes,
    layers::{AttentionStyle, dense, layers},
    windows,
};

/// Biases of q, k and v.
pub(super) const QKV_BIAS: [bool; 4] = [true, true, true, false];

/// Qwen2 (arXiv 2407.10671): q, k and v have biases; layers from `max_window_layers` on have a window if
/// `use_sliding_window` is true.
pub static QWEN2: Family = Family {
    model_type: "qwen2",
    defaults: Defaults {
        max_positions: 32768,
        sizes: Sizes { intermediate: 22_016, vocabulary: 151_936, ..Sizes::LLAMA },
        ..Defaults::LLAMA
    },
    names: Names::LLAMA,
    gguf: GgufArchitecture::Qwen2,
    layers: |config| {
        let windows = windows::by_layer(config, |layer, max_window_layers| layer >= max_window_layers)?;
        layers(config, &AttentionStyle { biases: QKV_BIAS, qk_norm: false }, &windows, &dense(config)?)
    },
};
