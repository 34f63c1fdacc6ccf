//! Weights of the sources that do not go into the output. Nothing is left out without a word.

use std::collections::{BTreeMap, BTreeSet};

use super::{Models, OutputTensor};
use crate::{
    architecture::{LayerRole, Role},
    source::Source,
};

/// Weights of one source, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedWeights {
    /// The source, as the recipe writes it.
    pub source: String,
    /// What they are and why they are left out.
    pub what: String,
    /// Their names.
    pub names: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
}

/// Everything that no step of the plan reads.
pub fn unused_weights(models: &Models, tensors: &[OutputTensor]) -> Vec<UnusedWeights> {
    let mut read: BTreeMap<(&std::path::Path, u64), u64> = BTreeMap::new();
    for view in tensors.iter().flat_map(|t| t.step.reads()) {
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
        // A fused tensor is read in parts: any part that starts inside it means that it is used.
        if read.range((path, view.offset)..(path, view.offset + view.len.max(1))).next().is_some() {
            continue;
        }
        let what = match known.get(view.name.as_str()) {
            Some(Role::Layer(_, LayerRole::Ffn(_))) if is_expert => "FFN (of layers that it is not in)",
            Some(Role::Layer(_, LayerRole::Ffn(_))) => "FFN (the base is not an expert)",
            Some(_) if is_base => "not part of the output",
            Some(_) => "attention, norms, embeddings, head (these come from the base)",
            None if view.name == "lm_head.weight" && source.config.tied_embeddings => {
                "head (config.json says that it is the embeddings)"
            }
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
                "adapter: outside the FFN (attention comes from the base)"
            };
            add(what, &view.name, view.len);
        }
    }
    groups.into_values().collect()
}
