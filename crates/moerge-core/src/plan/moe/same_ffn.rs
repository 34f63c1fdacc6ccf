//! Finds experts that are identical in a layer: made from the same bytes by the same operations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Models, Slots};
use crate::{
    model::families::{FfnMatrix, LayerRole, Role},
    ops::Identity,
    plan::OutputTensor,
    suggest::ranges,
};

/// Experts with the same FFN in some layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SameFfn {
    /// The experts.
    pub experts: Vec<usize>,
    /// The layers.
    pub layers: Vec<usize>,
}

impl SameFfn {
    /// The warning.
    pub fn warning(&self, models: &Models, slots: &Slots) -> String {
        let who = self.experts.iter().map(|e| format!("expert {e} ({})", models.expert(*e).short_name()));
        format!(
            "{} have the same feed-forward network in {} of {} layers ({})",
            who.collect::<Vec<_>>().join(" and "),
            self.layers.len(),
            slots.layers(),
            ranges(&self.layers)
        )
    }
}

/// The groups of experts whose three matrices are equal in some layers. `origin` identifies the source or the content
/// of a matrix; `None` makes it unique.
pub fn same_ffn<'a>(
    slots: &Slots,
    tensors: impl Iterator<Item = (Role, &'a OutputTensor)>,
    origin: impl Fn(&OutputTensor) -> Option<String>,
) -> Vec<SameFfn> {
    // By layer and slot, the origins of its matrices.
    let mut made_of: BTreeMap<(usize, usize), [Option<String>; 3]> = BTreeMap::new();
    for (role, tensor) in tensors {
        let Role::Layer(layer, LayerRole::Expert(slot, matrix)) = role else { continue };
        let which = match matrix {
            FfnMatrix::Gate => 0,
            FfnMatrix::Up => 1,
            FfnMatrix::Down => 2,
        };
        made_of.entry((layer, slot)).or_default()[which] = origin(tensor);
    }
    let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
    for layer in 0..slots.layers() {
        let mut alike: BTreeMap<Vec<&String>, Vec<usize>> = BTreeMap::new();
        for expert in slots.members(layer) {
            let Some(origins) = slots.slot(layer, expert).and_then(|slot| made_of.get(&(layer, slot))) else {
                continue;
            };
            let known: Vec<&String> = origins.iter().flatten().collect();
            if known.len() == origins.len() {
                alike.entry(known).or_default().push(expert);
            }
        }
        for experts in alike.into_values().filter(|experts| experts.len() > 1) {
            groups.entry(experts).or_default().push(layer);
        }
    }
    groups.into_iter().map(|(experts, layers)| SameFfn { experts, layers }).collect()
}

/// Identifies what a tensor is made of; `None` if noise makes it unique.
pub fn origin(tensor: &OutputTensor) -> Option<String> {
    let mut id = Identity::by_place();
    let known = !tensor.expr.has_noise() && id.expr(&tensor.expr).is_ok();
    known.then(|| id.finish())
}
