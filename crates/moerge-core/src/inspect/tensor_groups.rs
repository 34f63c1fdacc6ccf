//! Groups the tensors of a checkpoint by purpose, or by name pattern if the family is unknown.

use std::collections::{BTreeSet, HashMap};

use moerge_checkpoint::{Checkpoint, TensorView};
use serde::Serialize;

use crate::model::families::{Description, LayerRole, Role};

/// The name of the group of routed experts.
pub(super) const EXPERTS: &str = "experts";

/// A group of tensors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorGroup {
    /// `attention`, `experts`, ...; or a pattern such as `h.*.attn.weight` if the family is unknown.
    pub name: String,
    /// The number of tensors.
    pub tensors: usize,
    /// Their elements.
    pub parameters: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their element types.
    pub dtypes: BTreeSet<String>,
    /// Their distinct shapes, in order of occurrence.
    pub shapes: Vec<Vec<usize>>,
}

/// The groups in the order of the forward pass; patterns by name.
///
/// `stored` gives the type of a tensor in its file, and its bytes.
pub(super) fn group(
    weights: &Checkpoint,
    description: Option<&Description>,
    stored: &dyn Fn(&TensorView) -> (&'static str, u64),
) -> Vec<TensorGroup> {
    let roles: HashMap<&str, Role> =
        description.iter().flat_map(|d| &d.tensors).map(|t| (t.name.as_str(), t.role)).collect();
    let mut parts: Vec<TensorGroup> = Vec::new();
    let mut sorted: Vec<(usize, String, &TensorView)> = weights
        .tensors()
        .map(|view| match roles.get(view.name.as_str()) {
            Some(role) => (order(*role).0, order(*role).1.to_owned(), view),
            None if description.is_some() => (usize::MAX, format!("other: {}", pattern(&view.name)), view),
            None => (usize::MAX, pattern(&view.name), view),
        })
        .collect();
    sorted.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    for (_, name, view) in sorted {
        match parts.last_mut() {
            Some(part) if part.name == name => part.add(view, stored(view)),
            _ => {
                let mut part = TensorGroup {
                    name,
                    tensors: 0,
                    parameters: 0,
                    bytes: 0,
                    dtypes: BTreeSet::new(),
                    shapes: Vec::new(),
                };
                part.add(view, stored(view));
                parts.push(part);
            }
        }
    }
    parts
}

impl TensorGroup {
    fn add(&mut self, view: &TensorView, (stored, bytes): (&str, u64)) {
        self.tensors += 1;
        self.parameters += view.elements();
        self.bytes += bytes;
        self.dtypes.insert(stored.to_owned());
        if !self.shapes.contains(&view.shape) {
            self.shapes.push(view.shape.clone());
        }
    }
}

/// The position and name of a group.
fn order(role: Role) -> (usize, &'static str) {
    match role {
        Role::Embeddings => (0, "embeddings"),
        Role::Layer(_, role) => match role {
            LayerRole::Attention(_) | LayerRole::AttentionBias(_) => (1, "attention"),
            LayerRole::Ffn(_) => (2, "ffn"),
            LayerRole::Router => (3, "routers"),
            LayerRole::Expert(..) => (4, EXPERTS),
            LayerRole::SharedExpert(_) | LayerRole::SharedExpertGate => (5, "shared expert"),
            LayerRole::InputNorm | LayerRole::QNorm | LayerRole::KNorm | LayerRole::FfnNorm => (6, "norms"),
        },
        Role::FinalNorm => (6, "norms"),
        Role::LmHead => (7, "head"),
    }
}

/// A tensor's name with its numbers replaced: `model.layers.*.mlp.up_proj.weight`.
fn pattern(name: &str) -> String {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    name.split('.').map(|part| if number(part) { "*" } else { part }).collect::<Vec<_>>().join(".")
}
