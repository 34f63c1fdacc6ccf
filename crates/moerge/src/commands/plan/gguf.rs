//! What `plan` says of a GGUF file.

use std::collections::BTreeMap;

use moerge_core::plan::gguf::GgufPlan;
use serde_json::{Value, json};

use super::page::row;
use crate::{
    numbers::{bytes, count},
    terminal::table,
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

/// The file's lines.
pub fn lines(plan: &GgufPlan) -> Vec<String> {
    let size = plan.output.layout.total_file_bytes();
    let what = format!("{} in {}, {} ({size} bytes)", plan.architecture.name(), plan.file_type.name(), bytes(size));
    let mut rows = vec![vec![row("file"), what]];
    for (name, tensors, size) in types(plan) {
        rows.push(vec![String::new(), format!("{name}: {}, {}", count(tensors, "tensor"), bytes(size))]);
    }
    std::iter::once(String::new()).chain(table(&rows, &[])).collect()
}

/// The same as JSON.
pub fn json(plan: &GgufPlan) -> Value {
    let types = types(plan).into_iter();
    let types = types.map(|(name, tensors, bytes)| json!({ "type": name, "tensors": tensors, "bytes": bytes }));
    json!({
        "architecture": plan.architecture.name(),
        "quant": plan.file_type.name(),
        "bytes": plan.output.layout.total_file_bytes(),
        "types": types.collect::<Vec<_>>(),
    })
}
