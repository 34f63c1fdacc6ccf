//! Tensor names by role. All families use Llama's names, with a few differences that [`Names`] lists.

use super::{FfnMatrix, FusedPart, LayerRole, LayerSpec, Projection, Role, RoleTensor};

/// A family's tensor names within a layer (the classic layout: one tensor per expert).
#[derive(Debug)]
pub(super) struct Names {
    /// The module of router and experts.
    pub block: &'static str,
    /// An expert's gate, up and down matrices.
    pub expert: [&'static str; 3],
    /// The shared expert's module under the block.
    pub shared: &'static str,
    /// Whether q, k, v are one tensor `qkv_proj` and gate, up one tensor `gate_up_proj` (Phi-3).
    pub fused: bool,
}

impl Names {
    /// Llama's names.
    pub const LLAMA: Self =
        Self { block: "mlp", expert: ["gate_proj", "up_proj", "down_proj"], shared: "shared_expert", fused: false };

    /// The location of a role of layer `layer`.
    pub fn tensor(&self, layer: usize, spec: &LayerSpec, role: LayerRole, shape: Vec<usize>) -> RoleTensor {
        let block = self.block;
        let name = match role {
            LayerRole::InputNorm => "input_layernorm.weight".to_owned(),
            LayerRole::FfnNorm => "post_attention_layernorm.weight".to_owned(),
            LayerRole::Attention(projection) => format!("self_attn.{projection}.weight"),
            LayerRole::AttentionBias(projection) => format!("self_attn.{projection}.bias"),
            LayerRole::QNorm => "self_attn.q_norm.weight".to_owned(),
            LayerRole::KNorm => "self_attn.k_norm.weight".to_owned(),
            LayerRole::Ffn(matrix) => format!("mlp.{matrix}.weight"),
            LayerRole::Router => format!("{block}.gate.weight"),
            LayerRole::Expert(expert, matrix) => {
                let [gate, up, down] = self.expert;
                let matrix = match matrix {
                    FfnMatrix::Gate => gate,
                    FfnMatrix::Up => up,
                    FfnMatrix::Down => down,
                };
                format!("{block}.experts.{expert}.{matrix}.weight")
            }
            LayerRole::SharedExpert(matrix) => format!("{block}.{}.{matrix}.weight", self.shared),
            LayerRole::SharedExpertGate => format!("{block}.{}_gate.weight", self.shared),
        };
        let fused = if self.fused { fused(spec, role) } else { None };
        let (name, part_of) = match fused {
            Some((name, part)) => (name.to_owned(), Some(part)),
            None => (name, None),
        };
        RoleTensor { role: Role::Layer(layer, role), name: format!("model.layers.{layer}.{name}"), shape, part_of }
    }
}

/// The location of a role in Phi-3: q, k, v are rows of `qkv_proj`; gate and up are rows of `gate_up_proj`.
fn fused(spec: &LayerSpec, role: LayerRole) -> Option<(&'static str, FusedPart)> {
    let (q, kv, width) = (spec.attention().q_width(), spec.attention().kv_width(), spec.ffn.intermediate());
    let (name, first_row, of_rows) = match role {
        LayerRole::Attention(Projection::Q) => ("self_attn.qkv_proj.weight", 0, q + 2 * kv),
        LayerRole::Attention(Projection::K) => ("self_attn.qkv_proj.weight", q, q + 2 * kv),
        LayerRole::Attention(Projection::V) => ("self_attn.qkv_proj.weight", q + kv, q + 2 * kv),
        LayerRole::Ffn(FfnMatrix::Gate) => ("mlp.gate_up_proj.weight", 0, 2 * width),
        LayerRole::Ffn(FfnMatrix::Up) => ("mlp.gate_up_proj.weight", width, 2 * width),
        _ => return None,
    };
    Some((name, FusedPart { first_row, of_rows, stack: None }))
}
