//! Layouts of checkpoints that differ from a family's classic one.
//!
//! * The experts of a layer in two tensors, as transformers 5 holds them and mergekit 0.1.5 writes them:
//!   `experts.gate_up_proj` `[experts, 2 * intermediate, hidden]`, gate rows first, and `experts.down_proj`
//!   `[experts, hidden, intermediate]`, under `mlp` whatever the family's classic name for the block is.
//! * The text part of a multimodal model, whose names have a prefix.
//! * Tied embeddings that are stored only as `lm_head.weight`, or with a separate head.
//!
//! These are read but never written: every reader supports the classic layout.

use moerge_checkpoint::Checkpoint;

use super::{Description, FfnMatrix, FusedPart, LayerRole, Role, RoleTensor};

/// The modules of router and experts: that of transformers 5, and Mixtral's classic one.
const BLOCKS: [&str; 2] = ["mlp", "block_sparse_moe"];

/// Replacements of `model.` and `lm_head` in the text part of a multimodal model.
const TEXT_PARTS: [[&str; 2]; 4] = [
    ["language_model.model.", "language_model.lm_head"],
    ["model.language_model.", "lm_head"],
    ["model.text_model.", "lm_head"],
    ["model.language_model.model.", "model.language_model.lm_head"],
];

impl Description {
    /// The same model with the tensor names of `checkpoint`. Tensors that it has under neither name keep their classic
    /// ones.
    pub fn stored_in(&self, checkpoint: &Checkpoint) -> Self {
        let mut stored = self.clone();
        if self.text_part {
            stored.rename_text_part(checkpoint);
        }
        stored.untie(checkpoint);
        let Some(experts) = self.decoder.experts().map(|spec| spec.experts) else { return stored };
        for tensor in &mut stored.tensors {
            if checkpoint.get(&tensor.name).is_none() {
                let mut fused = BLOCKS.iter().filter_map(|block| fused(tensor, block, experts));
                if let Some(found) = fused.find(|t| checkpoint.get(&t.name).is_some()) {
                    *tensor = found;
                }
            }
        }
        stored
    }

    /// Applies the prefix of the embeddings in `checkpoint` to all tensors.
    fn rename_text_part(&mut self, checkpoint: &Checkpoint) {
        let renamed = |name: &str, [model, head]: [&str; 2]| match name.strip_prefix("model.") {
            Some(rest) => format!("{model}{rest}"),
            None => name.replacen("lm_head", head, 1),
        };
        let Some(first) = self.tensors.first().filter(|t| checkpoint.get(&t.name).is_none()) else { return };
        let has = |part: &[&str; 2]| checkpoint.get(&renamed(&first.name, *part)).is_some();
        if let Some(part) = TEXT_PARTS.into_iter().find(has) {
            self.tensors.iter_mut().for_each(|tensor| tensor.name = renamed(&tensor.name, part));
        }
    }

    /// Follows transformers for tied embeddings: a separately stored head is used, and if only one of the two is
    /// stored, it serves as both.
    fn untie(&mut self, checkpoint: &Checkpoint) {
        if !self.decoder.tied_embeddings {
            return;
        }
        let Some(embeddings) = self.tensors.iter_mut().find(|t| t.role == Role::Embeddings) else { return };
        let head = head_of(&embeddings.name);
        if checkpoint.get(&head).is_none() {
            return;
        }
        if checkpoint.get(&embeddings.name).is_none() {
            embeddings.name = head;
            return;
        }
        let shape = embeddings.shape.clone();
        self.tensors.push(RoleTensor::whole(Role::LmHead, head, shape));
        self.decoder.tied_embeddings = false;
    }

    /// The same model with a separate head.
    pub fn add_head(&mut self, shape: &[usize]) {
        self.tensors.push(RoleTensor::whole(Role::LmHead, "lm_head.weight", shape.to_vec()));
        self.decoder.tied_embeddings = false;
    }
}

/// The head's name for embeddings of this name.
fn head_of(embeddings: &str) -> String {
    let part = TEXT_PARTS
        .into_iter()
        .find(|[model, _]| embeddings.strip_prefix(model).is_some_and(|rest| rest == "embed_tokens.weight"));
    format!("{}.weight", part.map_or("lm_head", |[_, head]| head))
}

/// The location of `tensor` in the fused layout, if it differs.
fn fused(tensor: &RoleTensor, block: &str, experts: usize) -> Option<RoleTensor> {
    let Role::Layer(layer, role) = tensor.role else { return None };
    // Keep the prefix before the layers: a text part has its own.
    let (model, _) = tensor.name.split_once("layers.")?;
    let block = format!("{model}layers.{layer}.{block}");
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
