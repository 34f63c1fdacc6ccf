//! Weights of the models that no tensor of the output is made from.

use std::collections::BTreeSet;

use moerge_checkpoint::TensorView;

use super::DenseModels;
use crate::plan::{OutputTensor, UnusedWeights};

/// Tensors of the models that nothing in `tensors` reads.
pub fn unused(models: &DenseModels, tensors: &[OutputTensor]) -> Vec<UnusedWeights> {
    let read: BTreeSet<(&std::path::Path, u64)> =
        tensors.iter().flat_map(|t| t.expr.reads()).map(|view| (view.file.path.as_path(), view.offset)).collect();
    let mut unused = Vec::new();
    for model in &models.0 {
        let of_files = model.files().into_iter().flat_map(|files| {
            let adapter = files.adapter.map(|a| (a.1, "adapter: of weights that are not merged"));
            std::iter::once((files.checkpoint, "not part of the output")).chain(adapter)
        });
        for (checkpoint, what) in of_files {
            let views = checkpoint.tensors();
            let left: Vec<&TensorView> =
                views.filter(|view| !read.contains(&(view.file.path.as_path(), view.offset)) && view.len > 0).collect();
            if !left.is_empty() {
                unused.push(UnusedWeights {
                    source: model.reference.clone(),
                    what: what.to_owned(),
                    names: left.iter().map(|view| view.name.clone()).collect(),
                    bytes: left.iter().map(|view| view.len).sum(),
                });
            }
        }
    }
    unused
}
