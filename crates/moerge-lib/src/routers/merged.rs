//! The MoE as merged so far: a plan's weights as the transformer reads them, before any of them is written.
//!
//! Every weight is made as [`moerge_core::execute`] makes it, adapters, noise, scale and the rounding to the output's type
//! included, so that routers are fitted to what the finished model will compute. Only the routers are not there yet:
//! whoever looks on ([`moerge_infer::decoder::Observer`]) sets a layer's gate when the pass has come to it, and the layer
//! then uses it.

use std::{collections::HashMap, ops::Range, sync::OnceLock};

use moerge_checkpoint::TensorView;

use super::Routers;
use moerge_core::{
    error::{Error, Result},
    execute::{Averaging, Change},
    model::families::{Description, FfnOptions, LayerRole, Role, RoleTensor},
    numeric::element,
    plan::{OutputTensor, Plan, Step},
};
use moerge_infer::decoder::Weights;

/// The weights of a plan.
pub struct Merged<'a> {
    description: Description,
    seed: u64,
    parts: HashMap<Role, Part<'a>>,
    gates: Vec<Gates>,
}

/// The gates of a layer, once they are known.
#[derive(Default)]
struct Gates {
    experts: OnceLock<Vec<f32>>,
    shared: OnceLock<Vec<f32>>,
}

struct Part<'a> {
    tensor: &'a OutputTensor,
    made: Made<'a>,
}

/// How its elements are made of what is read.
enum Made<'a> {
    /// As they are.
    Unchanged,
    Changed(Change<'a>),
    Averaged(Averaging<'a>),
}

impl<'a> Merged<'a> {
    /// The whole MoE.
    pub fn new(plan: &'a Plan) -> Result<Self> {
        let written = |role| (!matches!(role, Role::Layer(_, LayerRole::Ffn(_)))).then_some(role);
        Self::with(plan, plan.description.clone(), written)
    }

    /// The whole MoE with the routers it will have.
    pub(super) fn with_routers(plan: &'a Plan, routers: &Routers) -> Result<Self> {
        let merged = Self::new(plan)?;
        for (layer, gate) in routers.gates.iter().enumerate() {
            merged.set_gate(layer, gate.clone())?;
        }
        for (layer, gate) in routers.shared_gates.iter().enumerate() {
            merged.set_shared_gate(layer, gate.clone())?;
        }
        Ok(merged)
    }

    /// The MoE with `expert` as its only one: the dense model that the expert is behind the shared weights, with the
    /// base's FFN in layers that the expert is not in.
    pub fn only(plan: &'a Plan, expert: usize) -> Result<Self> {
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
        if let FfnOptions::Moe { experts, top_k, .. } = &mut description.decoder.ffn {
            (*experts, *top_k) = (1, 1);
        }
        let stand_in = |tensor: &OutputTensor| RoleTensor {
            role: tensor.role,
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
        for layer in 0..only.gates.len() {
            only.set_gate(layer, vec![0.0; hidden])?;
        }
        Ok(only)
    }

    fn with(plan: &'a Plan, description: Description, name: impl Fn(Role) -> Option<Role>) -> Result<Self> {
        let mut parts = HashMap::new();
        for tensor in plan.tensors.iter().chain(&plan.stand_ins) {
            let Some(role) = name(tensor.role) else { continue };
            let made = match &tensor.step {
                Step::Transform(step) => Made::Changed(Change::new(step)?),
                Step::Average(step) => Made::Averaged(Averaging::new(step)?),
                _ => Made::Unchanged,
            };
            parts.insert(role, Part { tensor, made });
        }
        let gates = (0..description.decoder.layers).map(|_| Gates::default()).collect();
        Ok(Self { description, seed: plan.seed, parts, gates })
    }

    /// Gives `layer` its router `[experts, hidden]`.
    pub fn set_gate(&self, layer: usize, gate: Vec<f32>) -> Result<()> {
        let slot = self.gates.get(layer).map(|gates| &gates.experts);
        slot.and_then(|slot| slot.set(gate).ok())
            .ok_or_else(|| Error::input(format!("layer {layer} has a router already")))
    }

    /// Gives `layer` the gate `[1, hidden]` of its shared expert.
    pub fn set_shared_gate(&self, layer: usize, gate: Vec<f32>) -> Result<()> {
        let slot = self.gates.get(layer).map(|gates| &gates.shared);
        slot.and_then(|slot| slot.set(gate).ok())
            .ok_or_else(|| Error::input(format!("layer {layer} has a shared gate already")))
    }

    fn part(&self, role: Role) -> Result<&Part<'a>> {
        self.parts.get(&role).ok_or_else(|| Error::input(format!("the plan has no {role:?}")))
    }
}

/// What a part is read from: source rows, or nothing.
fn view(step: &Step) -> Option<&TensorView> {
    match step {
        Step::Copy(view) => Some(view),
        Step::Transform(step) => Some(&step.view),
        Step::Average(_) | Step::Router(_) | Step::SharedExpertGate(_) | Step::Fill(_) => None,
    }
}

/// Rows of a tensor, and elements in each; a vector's elements are its rows.
fn shape(shape: &[usize]) -> (usize, usize) {
    let (rows, columns) = shape.split_first().unwrap_or((&1, &[]));
    (*rows, columns.iter().product())
}

impl Weights for Merged<'_> {
    fn description(&self) -> &Description {
        &self.description
    }

    fn fetch(&self, role: Role, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()> {
        raw.clear();
        let part = self.part(role)?;
        if let Made::Averaged(averaging) = &part.made {
            let (_, width) = shape(&part.tensor.shape);
            return averaging.fetch(rows, width, raw);
        }
        // A gate that does not exist yet cannot be read ahead; `widen` is called when it is used.
        let Some(view) = view(&part.tensor.step) else { return Ok(()) };
        let (there, width) = shape(&view.shape);
        let row_bytes = width * view.dtype.size_bits() as usize / 8;
        let read = rows.start.min(there)..rows.end.min(there);
        raw.resize(rows.len() * row_bytes, 0);
        let bytes = read.len() * row_bytes;
        Ok(view.rows(read)?.read_at(0, &mut raw[..bytes])?)
    }

    fn widen(&self, role: Role, rows: Range<usize>, raw: &[u8], out: &mut [f32]) -> Result<()> {
        let part = self.part(role)?;
        let gate = |layer: usize, of: fn(&Gates) -> &OnceLock<Vec<f32>>, out: &mut [f32]| {
            let gate = self.gates.get(layer).and_then(|gates| of(gates).get());
            let width = self.description.decoder.hidden;
            match gate.and_then(|gate| gate.get(rows.start * width..rows.end * width)) {
                Some(gate) => out.copy_from_slice(gate),
                None => return Err(Error::input(format!("the router of layer {layer} was not made in time"))),
            }
            Ok(())
        };
        if let Made::Averaged(averaging) = &part.made {
            averaging.mean(self.seed, rows, raw, out)?;
            element::round_to(part.tensor.dtype, out);
            return Ok(());
        }
        let view = match &part.tensor.step {
            Step::Average(_) => return Ok(()),
            Step::Fill(value) => {
                out.fill(*value);
                return Ok(());
            }
            Step::Router(layer) => return gate(*layer, |gates| &gates.experts, out),
            Step::SharedExpertGate(layer) => return gate(*layer, |gates| &gates.shared, out),
            Step::Copy(view) => view,
            Step::Transform(step) => &step.view,
        };
        let (there, width) = shape(&view.shape);
        let columns = out.len() / rows.len().max(1);
        let there = rows.start.min(there)..rows.end.min(there);
        out.fill(0.0);
        let mut narrow = Vec::new();
        let values = if width == columns {
            &mut out[..there.len() * width]
        } else {
            narrow.resize(there.len() * width, 0.0);
            &mut narrow[..]
        };
        element::widen(view.dtype, raw, values);
        if let Made::Changed(change) = &part.made {
            change.apply(self.seed, there, width, values)?;
            element::round_to(part.tensor.dtype, values);
        }
        if width != columns {
            for (row, values) in out.chunks_exact_mut(columns).zip(narrow.chunks_exact(width)) {
                row[..width].copy_from_slice(values);
            }
        }
        Ok(())
    }
}
