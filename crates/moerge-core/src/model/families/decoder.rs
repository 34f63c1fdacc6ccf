//! The options of one decoder layer: all that distinguishes the families for whoever runs them.

use crate::model::rope::Rope;

/// How to run a decoder, dense or MoE. Sizes are numbers of elements.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderOptions {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embeddings.
    pub vocabulary: usize,
    /// Epsilon of all RMS norms.
    pub norm_eps: f64,
    /// Rotary embeddings.
    pub rope: Rope,
    /// Whether q and k heads are RMS-normed before the rotation (Qwen3).
    pub qk_norm: bool,
    /// Which projections have a bias, in the order q, k, v, o.
    pub attention_bias: [bool; 4],
    /// Per layer: how many tokens back (itself included) a token sees; `None` for all.
    pub windows: Vec<Option<usize>>,
    /// The FFN's activation.
    pub activation: Activation,
    /// Whether the LM head is the embedding matrix.
    pub tied_embeddings: bool,
    /// The layer's FFN: dense, or experts.
    pub ffn: FfnOptions,
}

/// The FFN of every layer.
#[derive(Debug, Clone, PartialEq)]
pub enum FfnOptions {
    /// One gated FFN of this width.
    Dense {
        /// Its width.
        intermediate: usize,
    },
    /// Experts behind a router: softmax over all experts, the `top_k` largest kept.
    Moe {
        /// Number of routed experts.
        experts: usize,
        /// Experts per token.
        top_k: usize,
        /// Whether the kept weights are divided by their sum.
        renormalise: bool,
        /// Width of a routed expert.
        intermediate: usize,
        /// An expert that every token goes through.
        shared: Option<SharedExpertOptions>,
    },
}

/// The shared expert of every layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedExpertOptions {
    /// Its width.
    pub intermediate: usize,
    /// Whether its output is multiplied with `sigmoid(gate . x)` (Qwen2-MoE) or added as it is (DeepSeek-MoE).
    pub gated: bool,
}

/// Activations of a gated FFN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of GELU.
    GeluTanh,
}
