//! The architectures of llama.cpp, as far as a family's file has to name one.

/// An architecture of llama.cpp, and how it differs from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are llama.cpp's.
pub enum GgufArchitecture {
    Llama,
    Qwen2,
    Qwen2Moe,
    Qwen3,
    Qwen3Moe,
    Phi3,
    Deepseek,
}

impl GgufArchitecture {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Llama, Self::Qwen2, Self::Qwen2Moe, Self::Qwen3, Self::Qwen3Moe, Self::Phi3, Self::Deepseek];

    /// llama.cpp's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen2Moe => "qwen2moe",
            Self::Qwen3 => "qwen3",
            Self::Qwen3Moe => "qwen3moe",
            Self::Phi3 => "phi3",
            Self::Deepseek => "deepseek",
        }
    }

    /// Whether rotary pairs are beside each other, and not in the two halves of a head.
    pub fn has_adjacent_pairs(self) -> bool {
        matches!(self, Self::Llama | Self::Deepseek)
    }

    /// Whether q, k, v are one tensor, and gate, up another.
    pub fn is_fused(self) -> bool {
        self == Self::Phi3
    }

    /// Whether it has a shared expert.
    pub fn has_shared_expert(self) -> bool {
        matches!(self, Self::Qwen2Moe | Self::Deepseek)
    }

    /// Whether it divides the weights of the experts that a token uses by their sum.
    pub fn renormalises(self) -> bool {
        matches!(self, Self::Llama | Self::Qwen3Moe)
    }
}
