//! What a decoder computes, layer by layer: everything that distinguishes the families when they run.
//!
//! A [`LayerSpec`] says how one layer mixes tokens, which feed-forward network follows, and where the norms are. It
//! knows no tensor names; the weights a layer needs, with their shapes, follow from it ([`LayerSpec::weights`]).

use std::sync::Arc;

use super::{
    role::{FfnMatrix, LayerRole, Projection},
    rope::Rope,
};

/// How to run a decoder. Sizes are numbers of elements.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderOptions {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embeddings.
    pub vocabulary: usize,
    /// Epsilon of the RMS norm after the last layer.
    pub norm_eps: f64,
    /// Whether the LM head is the embedding matrix.
    pub tied_embeddings: bool,
    /// The layers, from the embeddings up.
    pub layers: Vec<LayerSpec>,
}

/// One decoder layer: `x += mixer(norm(x))`, then `x += ffn(norm(x))`.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    /// The attention or other token mixer.
    pub mixer: Mixer,
    /// The feed-forward network.
    pub ffn: FfnSpec,
    /// The norms.
    pub norms: NormSpec,
}

/// The token mixer of a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Mixer {
    /// Causal self-attention.
    Attention(AttentionSpec),
}

/// Grouped-query attention with rotary embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether each q and k head is RMS-normalized before the rotation (Qwen3).
    pub qk_norm: bool,
    /// Which projections have a bias, in the order q, k, v, o.
    pub biases: [bool; 4],
    /// How many tokens a token attends to, including itself; `None` for all before it.
    pub window: Option<usize>,
    /// Rotary embeddings. Layers with the same parameters share one.
    pub rope: Arc<Rope>,
}

/// A layer's feed-forward network.
#[derive(Debug, Clone, PartialEq)]
pub enum FfnSpec {
    /// One gated FFN: `down(act(gate x) * up x)`.
    Dense {
        /// Its width.
        intermediate: usize,
        /// Its activation.
        activation: Activation,
    },
    /// Gated FFNs behind a router.
    Experts(ExpertsSpec),
}

/// Experts behind a router: softmax over all, of which the `top_k` largest are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertsSpec {
    /// Number of routed experts.
    pub experts: usize,
    /// Experts per token.
    pub top_k: usize,
    /// Whether the kept weights are divided by their sum.
    pub renormalise: bool,
    /// Width of a routed expert.
    pub intermediate: usize,
    /// An expert that is active for every token.
    pub shared: Option<SharedExpertOptions>,
    /// The activation of all experts.
    pub activation: Activation,
}

/// A layer's shared expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedExpertOptions {
    /// Its width.
    pub intermediate: usize,
    /// Whether its output is multiplied by `sigmoid(gate . x)` (Qwen2-MoE) or added unchanged (DeepSeek-MoE).
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

/// A layer's norms. Every family so far has one before the mixer and one before the FFN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormSpec {
    /// Their placement.
    pub placement: NormPlacement,
    /// Their kind.
    pub kind: NormKind,
}

/// The placement of a layer's norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before the mixer and before the FFN.
    Before,
}

/// What a norm computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps) * weight` (arXiv 1910.07467).
    Rms {
        /// Avoids a division by zero.
        eps: f64,
    },
}

impl DecoderOptions {
    /// The experts of the first MoE layer; `None` for a dense model.
    pub fn experts(&self) -> Option<&ExpertsSpec> {
        self.layers.iter().find_map(|layer| match &layer.ffn {
            FfnSpec::Dense { .. } => None,
            FfnSpec::Experts(experts) => Some(experts),
        })
    }

    /// The windows of all layers.
    pub fn windows(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        self.layers.iter().map(|layer| layer.attention().window)
    }
}

impl LayerSpec {
    /// The layer's attention.
    pub fn attention(&self) -> &AttentionSpec {
        let Mixer::Attention(attention) = &self.mixer;
        attention
    }

    /// Epsilon of the layer's norms, including those of q and k heads.
    pub fn norm_eps(&self) -> f64 {
        let NormKind::Rms { eps } = self.norms.kind;
        eps
    }

    /// All weights of the layer with their shapes, in file order. `hidden` is the width of the residual stream.
    pub fn weights(&self, hidden: usize) -> Vec<(LayerRole, Vec<usize>)> {
        let NormPlacement::Before = self.norms.placement;
        let mut weights = vec![(LayerRole::InputNorm, vec![hidden])];
        weights.extend(self.attention().weights(hidden));
        weights.push((LayerRole::FfnNorm, vec![hidden]));
        weights.extend(self.ffn.weights(hidden));
        weights
    }
}

impl AttentionSpec {
    /// Width of all query heads together.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads together, and of all value heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    fn weights(&self, hidden: usize) -> Vec<(LayerRole, Vec<usize>)> {
        let (q, kv) = (self.q_width(), self.kv_width());
        let mut weights = Vec::new();
        for (projection, bias) in Projection::ALL.into_iter().zip(self.biases) {
            let (rows, columns) = match projection {
                Projection::Q => (q, hidden),
                Projection::K | Projection::V => (kv, hidden),
                Projection::O => (hidden, q),
            };
            weights.push((LayerRole::Attention(projection), vec![rows, columns]));
            if bias {
                weights.push((LayerRole::AttentionBias(projection), vec![rows]));
            }
        }
        if self.qk_norm {
            weights.push((LayerRole::QNorm, vec![self.head_dim]));
            weights.push((LayerRole::KNorm, vec![self.head_dim]));
        }
        weights
    }
}

impl FfnSpec {
    /// Width of the FFN, or of one routed expert.
    pub fn intermediate(&self) -> usize {
        match self {
            Self::Dense { intermediate, .. } => *intermediate,
            Self::Experts(experts) => experts.intermediate,
        }
    }

    /// The activation.
    pub fn activation(&self) -> Activation {
        match self {
            Self::Dense { activation, .. } => *activation,
            Self::Experts(experts) => experts.activation,
        }
    }

    fn weights(&self, hidden: usize) -> Vec<(LayerRole, Vec<usize>)> {
        let shape = |matrix, intermediate| match matrix {
            FfnMatrix::Gate | FfnMatrix::Up => vec![intermediate, hidden],
            FfnMatrix::Down => vec![hidden, intermediate],
        };
        match self {
            Self::Dense { intermediate, .. } => {
                FfnMatrix::ALL.map(|m| (LayerRole::Ffn(m), shape(m, *intermediate))).to_vec()
            }
            Self::Experts(spec) => {
                let mut weights = vec![(LayerRole::Router, vec![spec.experts, hidden])];
                for expert in 0..spec.experts {
                    weights.extend(FfnMatrix::ALL.map(|m| (LayerRole::Expert(expert, m), shape(m, spec.intermediate))));
                }
                if let Some(shared) = spec.shared {
                    weights.extend(FfnMatrix::ALL.map(|m| (LayerRole::SharedExpert(m), shape(m, shared.intermediate))));
                    if shared.gated {
                        weights.push((LayerRole::SharedExpertGate, vec![1, hidden]));
                    }
                }
                weights
            }
        }
    }
}
