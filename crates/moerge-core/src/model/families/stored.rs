//! The layout that transformers 5 holds MoE models in, and that mergekit 0.1.5 writes: all experts of a layer in two
//! tensors, `experts.gate_up_proj` `[experts, 2 * intermediate, hidden]`, gate rows first, and `experts.down_proj`
//! `[experts, hidden, intermediate]`, under `mlp` whatever the family's classic name for the block is.
//!
//! It is read, never written: the classic names are those that every reader takes.

use moerge_checkpoint::Checkpoint;

use super::{Description, FfnMatrix, FusedPart, LayerRole, Role, RoleTensor, decoder::FfnOptions};

/// The modules of a layer that hold router and experts: transformers 5's, and Mixtral's classic one.
const BLOCKS: [&str; 2] = ["mlp", "block_sparse_moe"];

impl Description {
    /// The same model with its tensors named as they are in `checkpoint`: where that lacks a tensor of the MoE block
    /// by its classic name and has it fused, the fused one. What is in neither layout keeps its classic name.
    pub fn stored_in(&self, checkpoint: &Checkpoint) -> Self {
        let FfnOptions::Moe { experts, .. } = self.decoder.ffn else { return self.clone() };
        let stored = |tensor: &RoleTensor| {
            if checkpoint.get(&tensor.name).is_some() {
                return tensor.clone();
            }
            let mut fused = BLOCKS.iter().filter_map(|block| fused(tensor, block, experts));
            fused.find(|t| checkpoint.get(&t.name).is_some()).unwrap_or_else(|| tensor.clone())
        };
        Self { decoder: self.decoder.clone(), tensors: self.tensors.iter().map(stored).collect() }
    }
}

/// Where `tensor` is in the fused layout, if that keeps it elsewhere.
fn fused(tensor: &RoleTensor, block: &str, experts: usize) -> Option<RoleTensor> {
    let Role::Layer(layer, role) = tensor.role else { return None };
    let block = format!("model.layers.{layer}.{block}");
    let (expert, matrix) = match role {
        LayerRole::Router => return Some(RoleTensor { name: format!("{block}.gate.weight"), ..tensor.clone() }),
        LayerRole::Expert(expert, matrix) => (expert, matrix),
        _ => return None,
    };
    let rows = *tensor.shape.first()?;
    let (name, each, first) = match matrix {
        FfnMatrix::Gate => ("gate_up_proj", 2 * rows, 0),
        FfnMatrix::Up => ("gate_up_proj", 2 * rows, rows),
        FfnMatrix::Down => ("down_proj", rows, 0),
    };
    let part = FusedPart { first_row: expert * each + first, of_rows: experts * each, stack: Some(experts) };
    Some(RoleTensor { name: format!("{block}.experts.{name}"), part_of: Some(part), ..tensor.clone() })
}
