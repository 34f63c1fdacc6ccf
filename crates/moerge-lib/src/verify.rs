//! Checks a model folder: its files, its tensors against `config.json`, every value, every fingerprint, and whether
//! tokenizer, chat template and generation config can be read.
//!
//! A finding is an error or a warning. The check continues after each, so one pass reports everything. Memory is that
//! of the tokenizer and a few MiB per thread, whatever the size of the model.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use moerge_checkpoint::{Checkpoint, Header, ReadStorage};
use serde::Serialize;

use moerge_core::{
    error::{Cause, ErrorKind, Result},
    model::{
        families::is_known,
        files::CONFIG,
        folder::ModelFolder,
        foreign_weights::{self, UNQUANTISED},
        gguf::{GgufFolder, is_gguf},
    },
    progress::Progress,
    record::{MOERGE_JSON, MoergeJson, TensorRecord},
    suggest::printable,
};

mod against_config;

mod read;
pub(crate) mod small_files;
mod tokens;

use read::TensorBytes;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// `model_type` in `config.json`, where it is a family that moerge knows.
    pub family: Option<String>,
    /// Weight files.
    pub files: usize,
    /// Tensors.
    pub tensors: usize,
    /// Bytes of all tensors, or of the GGUF files; all were read.
    pub bytes: u64,
    /// Tensors whose fingerprint is the one in `moerge.json`; `None` if there is no such file.
    pub fingerprints_equal: Option<usize>,
    /// Which of the files beside the weights were there and looked at: `tokenizer`, `chat template`, ...
    pub small_files: Vec<String>,
    /// What is wrong or odd, errors first.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong or odd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether the model is broken by it.
    pub severity: Severity,
    /// What sort of thing.
    pub kind: FindingKind,
    /// The tensor it is about.
    pub tensor: Option<String>,
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The model is not whole.
    Error,
    /// It can be used, but something is odd.
    Warning,
}

/// Sorts of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A file or a tensor cannot be read.
    Unreadable,
    /// A file beside the weights that no reader takes: a tokenizer that is not JSON, a chat template with a mistake.
    SmallFile,
    /// Quantised weights that `config.json` does not mention.
    Quantised,
    /// Tensor names with another prefix than `config.json` requires.
    Names,
    /// `config.json` requires a tensor that is not there.
    Missing,
    /// A tensor has another shape than `config.json` requires.
    Shape,
    /// NaN or infinite values.
    NotFinite,
    /// Bytes differ from the fingerprint in `moerge.json`.
    Fingerprint,
    /// `config.json` does not call for a tensor.
    Unexpected,
    /// A GGUF file has bytes after its last tensor.
    Excess,
    /// A tensor's type is not the one in `config.json`.
    Dtype,
    /// The tokenizer and the model disagree: a token without an embedding, another end-of-text token.
    Tokens,
    /// The config ties the head to the embeddings, and a head that differs from them is stored.
    TiedHead,
    /// The experts are stored in a layout that few programs read.
    Layout,
    /// `config.json` is missing or of a family that moerge does not know, so shapes were not checked.
    NotChecked,
}

impl VerifyReport {
    /// Whether nothing is broken.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|f| f.severity != Severity::Error)
    }

    fn add(&mut self, severity: Severity, kind: FindingKind, tensor: Option<&str>, message: String) -> &mut Finding {
        // Names of tensors may hold anything.
        let message = printable(&message);
        self.findings.push(Finding { severity, kind, tensor: tensor.map(str::to_owned), message, hint: None });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    fn add_error(&mut self, kind: FindingKind, error: &moerge_core::Error) {
        let parts = error.parts();
        self.add(Severity::Error, kind, None, parts.message.clone()).hint = parts.hints.first().cloned();
    }
}

/// Checks the model, or the adapter, in `dir`.
///
/// # Errors
/// There is no folder, or the user stops the run; what is wrong with the model is in the report.
pub fn verify(
    storage: &Arc<dyn ReadStorage>,
    dir: &Path,
    threads: usize,
    progress: &dyn Progress,
) -> Result<VerifyReport> {
    let folder = ModelFolder::open(storage, dir)?;
    let mut report = VerifyReport::default();
    match folder.weights() {
        Ok(weights) => check(storage.as_ref(), &folder, &weights, threads, progress, &mut report)?,
        Err(error) => unreadable(storage, dir, &folder, &error, &mut report),
    }
    small_files::check(&folder, &mut report);
    tokens::check(storage.as_ref(), dir, &folder, &mut report);
    report.findings.sort_by_key(|f| (f.severity, f.kind));
    Ok(report)
}

fn check(
    storage: &dyn ReadStorage,
    folder: &ModelFolder,
    weights: &Checkpoint,
    threads: usize,
    progress: &dyn Progress,
    report: &mut VerifyReport,
) -> Result<()> {
    report.files = weights.files().len();
    report.tensors = weights.len();
    report.bytes = weights.tensors().map(|t| t.len).sum();
    if is_gguf(weights.dir()) {
        check_file(storage, weights.dir(), report)?;
    }
    let mut expected = None;
    if !folder.is_adapter() {
        check_quantised(folder, weights, report);
        match folder.description() {
            Ok((config, description)) => {
                let description = description.stored_in(weights);
                expected = against_config::check(&config, &description, weights, report);
                report.family = Some(config.model_type);
            }
            Err(error) => {
                // What moerge does not know may be sound; a config that is none, or has impossible values, is not.
                let unknown = (error.parts().cause == Cause::Unsupported)
                    || folder.family().is_some_and(|family| !is_known(&family));
                let severity = if unknown { Severity::Warning } else { Severity::Error };
                let message = format!("shapes were not checked: {}", error.parts().message);
                let hint = error.parts().hints.first().filter(|_| !unknown).cloned();
                report.add(severity, FindingKind::NotChecked, None, message).hint = hint;
            }
        }
    }
    let record = folder.record().unwrap_or_else(|error| {
        report.add_error(FindingKind::Fingerprint, &error);
        None
    });
    let bytes = read::all(weights, record.is_some(), threads, progress)?;
    check_values(&bytes, expected.as_ref(), report);
    if let Some(record) = &record {
        check_record(record, weights, &bytes, report);
    }
    Ok(())
}

/// The GGUF file itself, or the files that it was split into.
fn check_file(storage: &dyn ReadStorage, path: &Path, report: &mut VerifyReport) -> Result<()> {
    let gguf = GgufFolder::open(storage, path)?;
    report.files = gguf.files().len();
    report.bytes = gguf.files().iter().map(|(_, bytes)| bytes).sum();
    for (path, bytes) in gguf.with_excess() {
        let message = format!("{} has {bytes} trailing bytes after its last tensor", path.display());
        report.add(Severity::Warning, FindingKind::Excess, None, message).hint =
            Some("the file was changed after it was written, or is one of several that were joined".into());
    }
    Ok(())
}

/// Quantised weights in a model of any family, unless its config says so.
fn check_quantised(folder: &ModelFolder, weights: &Checkpoint, report: &mut VerifyReport) {
    let config = folder.object(CONFIG).ok().flatten().unwrap_or_default();
    let said =
        ["quantization_config", "compression_config"].iter().any(|key| config.get(*key).is_some_and(|v| !v.is_null()));
    if let Some(why) = foreign_weights::quantised(weights).filter(|_| !said) {
        let message = format!("{why}, and config.json has no `quantization_config`");
        report.add(Severity::Error, FindingKind::Quantised, None, message).hint = Some(UNQUANTISED.into());
    }
}

/// Values of every tensor. Those of a tensor that no reader uses harm nobody.
fn check_values(bytes: &[TensorBytes], expected: Option<&BTreeSet<String>>, report: &mut VerifyReport) {
    for tensor in bytes {
        let name = Some(tensor.view.name.as_str());
        match &tensor.outcome {
            Err(error) => {
                report.add(Severity::Error, FindingKind::Unreadable, name, error.parts().message.clone()).hint =
                    error.parts().hints.first().cloned();
            }
            Ok(found) if found.non_finite.any() => {
                let used = expected.is_none_or(|names| names.contains(&tensor.view.name));
                let severity = if used { Severity::Error } else { Severity::Warning };
                let message = format!("{} has {}", tensor.view.name, found.non_finite);
                report.add(severity, FindingKind::NotFinite, name, message);
            }
            Ok(_) => {}
        }
    }
}

/// Every tensor against the record of the run that wrote it.
fn check_record(record: &MoergeJson, weights: &Checkpoint, bytes: &[TensorBytes], report: &mut VerifyReport) {
    let records: BTreeMap<&str, &TensorRecord> = record.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut equal = 0;
    for tensor in bytes {
        let (Some(recorded), Ok(found)) = (records.get(tensor.view.name.as_str()), &tensor.outcome) else { continue };
        let (dtype, shape) = (tensor.view.dtype, &tensor.view.shape);
        let what = if recorded.dtype != dtype || recorded.shape != *shape {
            format!("is {dtype} {shape:?}, {MOERGE_JSON} says {} {:?}", recorded.dtype, recorded.shape)
        } else if found.fingerprint != Some(recorded.fingerprint) {
            format!("is not what was written: its bytes differ from the fingerprint in {MOERGE_JSON}")
        } else {
            equal += 1;
            continue;
        };
        let message = format!("{} {what}", tensor.view.name);
        report.add(Severity::Error, FindingKind::Fingerprint, Some(&tensor.view.name), message).hint =
            Some("the file was damaged or changed; merge again, or copy it again from where it came".into());
    }
    for name in records.keys().filter(|name| weights.get(name).is_none()) {
        let message = format!("{name} is in {MOERGE_JSON} but not in the weights");
        report.add(Severity::Error, FindingKind::Missing, Some(name), message);
    }
    for tensor in weights.tensors().filter(|t| !records.contains_key(t.name.as_str())) {
        let message = format!("{} is not in {MOERGE_JSON}", tensor.name);
        report.add(Severity::Warning, FindingKind::Unexpected, Some(&tensor.name), message);
    }
    report.fingerprints_equal = Some(equal);
}

/// What is wrong with weights that cannot be opened: each broken file, or else what the opening said.
fn unreadable(
    storage: &Arc<dyn ReadStorage>,
    dir: &Path,
    folder: &ModelFolder,
    error: &moerge_core::Error,
    report: &mut VerifyReport,
) {
    for name in folder.names.iter().filter(|n| n.ends_with(".safetensors")) {
        report.files += 1;
        if let Err(error) = Header::read(storage.as_ref(), &dir.join(name)) {
            report.add_error(FindingKind::Unreadable, &error.into());
        }
    }
    if report.findings.is_empty() || error.kind() == ErrorKind::Io {
        report.add_error(FindingKind::Unreadable, error);
    }
}

#[cfg(test)]
mod tests;
