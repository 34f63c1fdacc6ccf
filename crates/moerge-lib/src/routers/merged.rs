//! The planned MoE as [`Weights`] for the decoder, before anything is written.
//!
//! Every weight is made exactly as in [`moerge_core::execute`], including adapters, noise, scale and rounding to the
//! output's type, so routers are fitted to what the finished model computes. Only the routers are missing at first: an
//! [`Observer`](moerge_infer::decoder::Observer) sets the gate of a layer when the pass reaches it.

use std::{collections::HashMap, ops::Range, sync::OnceLock};

use moerge_checkpoint::Dtype;
use moerge_core::{
    error::{Error, Result},
    model::families::{Description, FfnSpec, LayerRole, Role, RoleTensor},
    numeric::element,
    ops::{ComputedValues, Evaluator, Expr},
    plan::{MoePlan, OutputTensor},
};
use moerge_infer::decoder::Weights;

use super::Routers;

/// The weights of a plan.
pub struct Merged {
    description: Description,
    parts: HashMap<Role, PlannedWeight>,
    gates: Gates,
}

/// The expression of a weight, and the dtype that the output rounds it to if it is not a copy.
struct PlannedWeight {
    evaluator: Evaluator,
    rounded: Option<Dtype>,
}

/// The gates by tensor name, once they are known.
#[derive(Default)]
struct Gates {
    names: HashMap<Role, String>,
    values: HashMap<String, OnceLock<Vec<f32>>>,
}

impl ComputedValues for Gates {
    fn values(&self, name: &str) -> Option<&[f32]> {
        self.values.get(name)?.get().map(Vec::as_slice)
    }
}

impl Merged {
    /// The whole MoE, without routers.
    ///
    /// # Errors
    /// The plan lacks a weight, or an expression of it cannot be evaluated.
    pub fn new(plan: &MoePlan) -> Result<Self> {
        let written = |role| (!matches!(role, Role::Layer(_, LayerRole::Ffn(_)))).then_some(role);
        Self::with(plan, plan.description.clone(), written)
    }

    /// The whole MoE with `routers`.
    pub(super) fn with_routers(plan: &MoePlan, routers: &Routers) -> Result<Self> {
        let merged = Self::new(plan)?;
        for (layer, gate) in routers.gates.iter().enumerate() {
            merged.set_gate(layer, gate.clone())?;
        }
        for (layer, gate) in routers.shared_gates.iter().enumerate() {
            merged.set_shared_gate(layer, gate.clone())?;
        }
        Ok(merged)
    }

    /// The MoE with `expert` as its only expert: the dense model of the shared weights with the expert's FFNs, and with
    /// the base's FFN in layers without the expert.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn only(plan: &MoePlan, expert: usize) -> Result<Self> {
        let slots = &plan.routing.slots;
        let keep = |role| match role {
            Role::Layer(layer, LayerRole::Expert(slot, matrix)) => {
                let own = slots.slot(layer, expert) == Some(slot);
                own.then_some(Role::Layer(layer, LayerRole::Expert(0, matrix)))
            }
            Role::Layer(layer, LayerRole::Ffn(matrix)) => {
                let absent = slots.slot(layer, expert).is_none();
                absent.then_some(Role::Layer(layer, LayerRole::Expert(0, matrix)))
            }
            role => Some(role),
        };
        let mut description = plan.description.clone();
        for layer in &mut description.decoder.layers {
            if let FfnSpec::Experts(spec) = &mut layer.ffn {
                (spec.experts, spec.top_k) = (1, 1);
            }
        }
        let stand_in = |(role, tensor): &(Role, OutputTensor)| RoleTensor {
            role: *role,
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            part_of: None,
        };
        description.tensors = std::mem::take(&mut description.tensors)
            .into_iter()
            .chain(plan.stand_ins.iter().map(stand_in))
            .filter_map(|mut tensor| {
                tensor.role = keep(tensor.role)?;
                if matches!(tensor.role, Role::Layer(_, LayerRole::Router)) {
                    tensor.shape[0] = 1;
                }
                Some(tensor)
            })
            .collect();
        let only = Self::with(plan, description, keep)?;
        let hidden = only.description.decoder.hidden;
        for layer in 0..only.description.decoder.layers.len() {
            only.set_gate(layer, vec![0.0; hidden])?;
        }
        Ok(only)
    }

    fn with(plan: &MoePlan, description: Description, rename: impl Fn(Role) -> Option<Role>) -> Result<Self> {
        let (mut parts, mut gates) = (HashMap::new(), Gates::default());
        let stand_ins = plan.stand_ins.iter().map(|(role, tensor)| (*role, tensor));
        for (role, tensor) in plan.tensors().chain(stand_ins) {
            let Some(role) = rename(role) else { continue };
            if let Expr::Computed { name, .. } = &tensor.expr {
                gates.names.insert(role, name.clone());
                gates.values.insert(name.clone(), OnceLock::new());
                continue;
            }
            let evaluator = Evaluator::new(&tensor.expr, plan.output.seed)?;
            let rounded = tensor.encoding.dtype().filter(|_| !tensor.is_copy());
            parts.insert(role, PlannedWeight { evaluator, rounded });
        }
        Ok(Self { description, parts, gates })
    }

    /// Sets the router `[experts, hidden]` of `layer`.
    ///
    /// # Errors
    /// It is set already.
    pub fn set_gate(&self, layer: usize, gate: Vec<f32>) -> Result<()> {
        self.set(Role::Layer(layer, LayerRole::Router), gate)
    }

    /// Sets the gate `[1, hidden]` of the shared expert of `layer`.
    ///
    /// # Errors
    /// It is set already.
    pub fn set_shared_gate(&self, layer: usize, gate: Vec<f32>) -> Result<()> {
        self.set(Role::Layer(layer, LayerRole::SharedExpertGate), gate)
    }

    fn set(&self, role: Role, gate: Vec<f32>) -> Result<()> {
        let slot = self.gates.names.get(&role).and_then(|name| self.gates.values.get(name));
        slot.and_then(|slot| slot.set(gate).ok())
            .ok_or_else(|| Error::input(format!("{role:?} has its values already")))
    }

    fn gate(&self, role: Role) -> Option<&str> {
        self.gates.names.get(&role).map(String::as_str)
    }

    fn part(&self, role: Role) -> Result<&PlannedWeight> {
        self.parts.get(&role).ok_or_else(|| Error::input(format!("the plan has no {role:?}")))
    }
}

impl Weights for Merged {
    fn description(&self) -> &Description {
        &self.description
    }

    fn fetch(&self, role: Role, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()> {
        if self.gate(role).is_some() {
            // A gate that is not set yet cannot be read ahead; `widen` reads it when it is used.
            raw.clear();
            return Ok(());
        }
        self.part(role)?.evaluator.fetch(rows, raw)
    }

    fn widen(&self, role: Role, rows: Range<usize>, raw: &[u8], out: &mut [f32]) -> Result<()> {
        if let Some(name) = self.gate(role) {
            let width = self.description.decoder.hidden;
            let gate = self.gates.values(name).and_then(|gate| gate.get(rows.start * width..rows.end * width));
            let gate = gate.ok_or_else(|| Error::input(format!("{name} was not made in time")))?;
            out.copy_from_slice(gate);
            return Ok(());
        }
        let part = self.part(role)?;
        part.evaluator.compute(rows, raw, &self.gates, out)?;
        if let Some(dtype) = part.rounded {
            element::round_to(dtype, out);
        }
        Ok(())
    }
}
