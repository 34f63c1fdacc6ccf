//! What `plan` says of a GGUF file.

use std::{collections::BTreeMap, path::PathBuf};

use moerge_core::plan::gguf::GgufPlan;
use moerge_lib::export::{PlannedFile, PlannedFiles};
use serde_json::{Value, json};

use super::page::row;
use crate::{
    numbers::{bytes, count},
    terminal::{path_text, table},
};

/// Tensors and bytes of each type, the largest share first.
fn types(plan: &GgufPlan) -> Vec<(&'static str, usize, u64)> {
    let mut types: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for tensor in &plan.output.tensors {
        let (tensors, bytes) = types.entry(tensor.encoding.name()).or_default();
        *tensors += 1;
        *bytes += tensor.bytes();
    }
    let mut types: Vec<_> = types.into_iter().map(|(name, (tensors, bytes))| (name, tensors, bytes)).collect();
    types.sort_by_key(|(_, _, bytes)| std::cmp::Reverse(*bytes));
    types
}

/// The paths of a file's parts, and their bytes.
fn parts(file: &PlannedFile) -> impl Iterator<Item = (PathBuf, u64)> {
    file.paths().into_iter().zip(file.plan.output.layout.shards.iter().map(|shard| shard.file_len))
}

/// The files' lines.
pub fn lines(planned: &PlannedFiles) -> Vec<String> {
    let mut rows = Vec::new();
    for file in &planned.files {
        let (plan, size) = (&file.plan, file.bytes());
        let what = format!("{} in {}, {} ({size} bytes)", plan.architecture.name(), plan.file_type.name(), bytes(size));
        rows.push(vec![row("file"), what]);
        for (name, tensors, size) in types(plan) {
            rows.push(vec![String::new(), format!("{name}: {}, {}", count(tensors, "tensor"), bytes(size))]);
        }
        if planned.files.len() > 1 || plan.output.layout.shards.len() > 1 {
            let line =
                |(path, size): (PathBuf, u64)| vec![String::new(), format!("{}: {size} bytes", path_text(&path))];
            rows.extend(parts(file).map(line));
        }
    }
    std::iter::once(String::new()).chain(table(&rows, &[])).collect()
}

/// The same as JSON.
pub fn json(planned: &PlannedFiles) -> Value {
    let file = |file: &PlannedFile| {
        let types = types(&file.plan).into_iter();
        let types = types.map(|(name, tensors, bytes)| json!({ "type": name, "tensors": tensors, "bytes": bytes }));
        let parts = parts(file).map(|(path, bytes)| json!({ "path": path, "bytes": bytes }));
        json!({
            "quant": file.plan.file_type.name(),
            "bytes": file.bytes(),
            "parts": parts.collect::<Vec<_>>(),
            "types": types.collect::<Vec<_>>(),
        })
    };
    json!({
        "architecture": planned.files.first().map(|file| file.plan.architecture.name()),
        "bytes": planned.bytes(),
        "files": planned.files.iter().map(file).collect::<Vec<_>>(),
    })
}
