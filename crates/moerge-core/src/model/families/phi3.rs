//! Phi-3 and Phi-4.

use super::{
    Defaults, Family, GgufArchitecture, Names, Sizes,
    layers::{AttentionStyle, dense, layers},
    windows,
};

/// Phi-3 (arXiv 2404.14219): q, k, v are one tensor, and so are gate and up.
pub static PHI3: Family = Family {
    model_type: "phi3",
    defaults: Defaults {
        norm_eps: 1e-5,
        max_positions: 4096,
        sizes: Sizes { hidden: 3072, intermediate: 8192, vocabulary: 32_064, ..Sizes::LLAMA },
        ..Defaults::LLAMA
    },
    names: Names { fused: true, ..Names::LLAMA },
    gguf: GgufArchitecture::Phi3,
    layers: |config| layers(config, &AttentionStyle::default(), &windows::uniform(config, None)?, &dense(config)?),
};
