//! The role of a tensor, independent of its name in a family.
//!
//! Everything that computes or plans uses roles; only the family tables know names. A role is one matrix or vector of
//! the decoder as in the papers, even if a family stores several in one fused tensor.

use std::fmt;

/// One weight of a decoder-only transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Token embeddings `[vocabulary, hidden]`.
    Embeddings,
    /// A weight of decoder layer `.0`.
    Layer(usize, LayerRole),
    /// The norm after the last layer `[hidden]`.
    FinalNorm,
    /// The language-model head `[vocabulary, hidden]`.
    LmHead,
}

/// One weight of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerRole {
    /// The norm before attention `[hidden]`.
    InputNorm,
    /// A projection of attention `[outputs, inputs]`.
    Attention(Projection),
    /// Its bias `[outputs]`.
    AttentionBias(Projection),
    /// The norm over each query head `[head_dim]`.
    QNorm,
    /// The norm over each key head `[head_dim]`.
    KNorm,
    /// The norm before the FFN `[hidden]`.
    FfnNorm,
    /// The gate matrix of the MoE `[experts, hidden]`.
    Router,
    /// A matrix of the dense FFN.
    Ffn(FfnMatrix),
    /// A matrix of expert `.0`.
    Expert(usize, FfnMatrix),
    /// A matrix of the shared expert.
    SharedExpert(FfnMatrix),
    /// The shared expert's own gate `[1, hidden]`.
    SharedExpertGate,
}

/// The four projections of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Projection {
    /// Queries `[heads * head_dim, hidden]`.
    Q,
    /// Keys `[kv_heads * head_dim, hidden]`.
    K,
    /// Values `[kv_heads * head_dim, hidden]`.
    V,
    /// Output `[hidden, heads * head_dim]`.
    O,
}

/// The three matrices of a gated FFN: `down(act(gate x) * up x)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FfnMatrix {
    /// `[intermediate, hidden]`, goes through the activation.
    Gate,
    /// `[intermediate, hidden]`.
    Up,
    /// `[hidden, intermediate]`.
    Down,
}

impl Projection {
    /// All four, in the order in which a layer uses them.
    pub const ALL: [Self; 4] = [Self::Q, Self::K, Self::V, Self::O];
}

impl FfnMatrix {
    /// All three, in the order in which a layer uses them.
    pub const ALL: [Self; 3] = [Self::Gate, Self::Up, Self::Down];
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
        })
    }
}

impl fmt::Display for FfnMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        })
    }
}
