//! The tensors that are there against those that `config.json` requires. Pure.

use std::collections::{BTreeMap, BTreeSet};

use moerge_checkpoint::{Checkpoint, Dtype};
use serde_json::Value;

use super::{FindingKind, Severity, VerifyReport};
use moerge_core::model::{
    config::ModelConfig,
    families::{Description, RoleTensor},
    foreign_weights::{self, UNQUANTISED},
    gguf::is_gguf,
    tied_head,
};

/// Adds what is missing, unexpected or of another shape; gives the names that are called for, `None` where the names in
/// the files are others altogether.
pub(super) fn check(
    config: &ModelConfig,
    description: &Description,
    weights: &Checkpoint,
    report: &mut VerifyReport,
) -> Option<BTreeSet<String>> {
    let expected = expected_shapes(description);
    // The head may be missing for another reason than the rest, so a few names are tried.
    let missing = || expected.keys().filter(|name| weights.get(name).is_none());
    if let Some(error) = missing().take(8).find_map(|name| foreign_weights::renamed(weights, name)) {
        report.add_error(FindingKind::Names, &error);
        return None;
    }
    for name in missing() {
        let message = format!("{name} is missing: config.json requires it with shape {:?}", expected[name]);
        report.add(Severity::Error, FindingKind::Missing, Some(name), message);
    }
    for tensor in weights.tensors() {
        match expected.get(&tensor.name) {
            Some(shape) if *shape != tensor.shape => {
                let message = format!("{} is {:?}, config.json requires {shape:?}", tensor.name, tensor.shape);
                report.add(Severity::Error, FindingKind::Shape, Some(&tensor.name), message);
            }
            // That of a matrix is said of all of them together.
            Some(_) if tensor.shape.len() < 2 && !foreign_weights::is_plain(tensor.dtype) => {
                let message = format!("{} is {}", tensor.name, tensor.dtype);
                let finding = report.add(Severity::Error, FindingKind::Quantised, Some(&tensor.name), message);
                finding.hint = Some(UNQUANTISED.into());
            }
            Some(_) => {}
            None => {
                let message =
                    format!("{} is not part of a {} model; readers ignore it", tensor.name, config.model_type);
                report.add(Severity::Warning, FindingKind::Unexpected, Some(&tensor.name), message);
            }
        }
    }
    // The weights of a GGUF file are read as other types than they are stored in.
    if !is_gguf(weights.dir()) {
        check_dtype(config, weights, report);
    }
    check_tied_head(config, description, weights, report);
    check_layout(config, description, report);
    Some(expected.into_keys().collect())
}

/// Name and shape of every tensor; roles that share one give it once.
fn expected_shapes(description: &Description) -> BTreeMap<String, Vec<usize>> {
    description.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.stored_shape())).collect()
}

/// One line where float tensors are not of the type that `config.json` names.
fn check_dtype(config: &ModelConfig, weights: &Checkpoint, report: &mut VerifyReport) {
    let named = ["dtype", "torch_dtype"].iter().find_map(|key| config.raw.get(*key).and_then(Value::as_str));
    let Some((named, promised)) = named.and_then(|n| Some((n, Dtype::from_torch_name(n)?))) else { return };
    let mut others: BTreeMap<&str, usize> = BTreeMap::new();
    for tensor in weights.tensors().filter(|t| t.dtype.is_float() && t.dtype != promised) {
        *others.entry(tensor.dtype.name()).or_default() += 1;
    }
    for (dtype, count) in others {
        let message = format!("{count} of {} tensors are {dtype}, config.json says {named}", weights.len());
        report.add(Severity::Warning, FindingKind::Dtype, None, message);
    }
}

/// A head that differs from the embeddings that it is tied to: readers do not agree on which is used.
fn check_tied_head(config: &ModelConfig, description: &Description, weights: &Checkpoint, report: &mut VerifyReport) {
    // A head that cannot be read is found where everything is read.
    let Ok(Some(warning)) = tied_head::warning(weights, config, description) else { return };
    let hint = "set `tie_word_embeddings` to false if the model was trained with a head of its own";
    report.add(Severity::Warning, FindingKind::TiedHead, None, warning).hint = Some(hint.into());
}

/// One line where the experts are stored as transformers 5 holds them in memory.
fn check_layout(config: &ModelConfig, description: &Description, report: &mut VerifyReport) {
    let stacked = |tensor: &&RoleTensor| tensor.part_of.is_some_and(|part| part.stack.is_some());
    if let Some(tensor) = description.tensors.iter().find(stacked) {
        let message = format!(
            "the experts of a layer are fused into one tensor ({}), which transformers 4 and llama.cpp cannot read for {}",
            tensor.name, config.model_type
        );
        let hint = "transformers 5 writes one tensor per expert when it saves the model again";
        report.add(Severity::Warning, FindingKind::Layout, Some(&tensor.name), message).hint = Some(hint.into());
    }
}
