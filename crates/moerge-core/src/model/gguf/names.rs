//! llama.cpp's names of tensors, by role.

use crate::model::families::{FfnMatrix, LayerRole, Projection, Role, RoleTensor};

/// The name of a role's tensor. All experts of a layer are one tensor.
pub fn name(role: Role) -> String {
    match role {
        Role::Embeddings => "token_embd.weight".to_owned(),
        Role::FinalNorm => "output_norm.weight".to_owned(),
        Role::LmHead => "output.weight".to_owned(),
        Role::Layer(layer, role) => format!("blk.{layer}.{}", in_layer(role)),
    }
}

/// The name of the tensor that holds `tensor`, which may be a part of a fused one.
pub fn name_of(tensor: &RoleTensor) -> String {
    match tensor.role {
        Role::Layer(layer, LayerRole::Attention(_)) if tensor.part_of.is_some() => {
            format!("blk.{layer}.attn_qkv.weight")
        }
        Role::Layer(layer, LayerRole::Ffn(_)) if tensor.part_of.is_some() => format!("blk.{layer}.ffn_up.weight"),
        role => name(role),
    }
}

fn in_layer(role: LayerRole) -> String {
    let matrix = |matrix| match matrix {
        FfnMatrix::Gate => "gate",
        FfnMatrix::Up => "up",
        FfnMatrix::Down => "down",
    };
    let projection = |projection| match projection {
        Projection::Q => "q",
        Projection::K => "k",
        Projection::V => "v",
        Projection::O => "output",
    };
    match role {
        LayerRole::InputNorm => "attn_norm.weight".to_owned(),
        LayerRole::Attention(p) => format!("attn_{}.weight", projection(p)),
        LayerRole::AttentionBias(p) => format!("attn_{}.bias", projection(p)),
        LayerRole::QNorm => "attn_q_norm.weight".to_owned(),
        LayerRole::KNorm => "attn_k_norm.weight".to_owned(),
        LayerRole::FfnNorm => "ffn_norm.weight".to_owned(),
        LayerRole::Router => "ffn_gate_inp.weight".to_owned(),
        LayerRole::Ffn(m) => format!("ffn_{}.weight", matrix(m)),
        LayerRole::Expert(_, m) => format!("ffn_{}_exps.weight", matrix(m)),
        LayerRole::SharedExpert(m) => format!("ffn_{}_shexp.weight", matrix(m)),
        LayerRole::SharedExpertGate => "ffn_gate_inp_shexp.weight".to_owned(),
    }
}
