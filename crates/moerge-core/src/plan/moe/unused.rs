//! Lists the weights of the sources that are not in the output, with reasons.

use std::collections::{BTreeMap, BTreeSet};

use super::Models;
use crate::model::{
    families::{LayerRole, Role},
    source::Source,
};
use crate::plan::{OutputTensor, UnusedWeights};

/// The usual reason why tensors of an adapter are not used.
const OUTSIDE_FFN: &str = "adapter: outside the FFN (attention comes from the base)";

impl UnusedWeights {
    /// A note about trained tensors of an adapter that are not in the output.
    pub fn of_adapter(&self) -> Option<String> {
        if self.what != OUTSIDE_FFN {
            return None;
        }
        let module = |name: &String| {
            let module = name.split(".lora_").next().unwrap_or(name);
            let inner = module.split_once("layers.").and_then(|(_, rest)| rest.split_once('.'));
            inner.map_or(module, |(_, module)| module).to_owned()
        };
        let modules: BTreeSet<String> = self.names.iter().map(module).collect();
        let shown: Vec<String> = modules.iter().take(3).cloned().collect();
        let more = if modules.len() > shown.len() { ", ..." } else { "" };
        let (count, adapter) = (self.names.len(), self.source.rsplit('+').next().unwrap_or(&self.source));
        Some(format!(
            "adapter {adapter}: {count} of its tensors are outside the FFN and stay unused ({}{more}); attention comes \
             from the base",
            shown.join(", ")
        ))
    }
}

/// All weights that the plan does not read.
pub fn unused_weights(models: &Models, tensors: &[OutputTensor]) -> Vec<UnusedWeights> {
    let mut read: BTreeMap<(&std::path::Path, u64), u64> = BTreeMap::new();
    for view in tensors.iter().flat_map(|t| t.expr.reads()) {
        read.insert((&view.file.path, view.offset), view.len);
    }
    models.sources.iter().flat_map(|source| unused_of(source, models, &read)).collect()
}

fn unused_of(source: &Source, models: &Models, read: &BTreeMap<(&std::path::Path, u64), u64>) -> Vec<UnusedWeights> {
    let known: BTreeMap<&str, Role> = source.description.tensors.iter().map(|t| (t.name.as_str(), t.role)).collect();
    let mut groups: BTreeMap<&str, UnusedWeights> = BTreeMap::new();
    let is_base = source.reference == models.base().reference;
    let is_expert = models.experts.iter().any(|index| models.sources[*index].reference == source.reference);
    let mut add = |what: &'static str, name: &str, bytes: u64| {
        let group = groups.entry(what).or_insert_with(|| UnusedWeights {
            source: source.reference.clone(),
            what: what.to_owned(),
            names: Vec::new(),
            bytes: 0,
        });
        group.names.push(name.to_owned());
        group.bytes += bytes;
    };
    for view in source.checkpoint.tensors() {
        let path: &std::path::Path = &view.file.path;
        // A fused tensor is read in parts: a read that starts inside it means that it is used.
        if read.range((path, view.offset)..(path, view.offset + view.len.max(1))).next().is_some() {
            continue;
        }
        let what = match known.get(view.name.as_str()) {
            Some(Role::Layer(_, LayerRole::Ffn(_))) if is_expert => "FFN (of layers that it is not in)",
            Some(Role::Layer(_, LayerRole::Ffn(_))) => "FFN (the base is not an expert)",
            Some(_) if is_base => "not part of the output",
            Some(_) => "attention, norms, embeddings, head (these come from the base)",
            None => "not known to this family",
        };
        add(what, &view.name, view.len);
    }
    let ffn = source.description.tensors.iter().filter(|t| matches!(t.role, Role::Layer(_, LayerRole::Ffn(_))));
    let of_ffn: BTreeSet<(&std::path::Path, u64)> = ffn
        .filter_map(|tensor| source.weight(tensor.role)?.lora.as_ref())
        .flat_map(|delta| [&delta.a, &delta.b])
        .map(|view| (view.file.path.as_path(), view.offset))
        .collect();
    if let Some(adapter) = &source.adapter {
        for view in adapter.checkpoint.tensors() {
            if read.contains_key(&(view.file.path.as_path(), view.offset)) {
                continue;
            }
            let what = if adapter.others.contains(&view.name) {
                "adapter: neither lora_A nor lora_B"
            } else if of_ffn.contains(&(view.file.path.as_path(), view.offset)) {
                "adapter: FFN (of layers that it is not in)"
            } else {
                OUTSIDE_FFN
            };
            add(what, &view.name, view.len);
        }
    }
    groups.into_values().collect()
}
