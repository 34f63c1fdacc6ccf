//! The gate matrices of a model, and the cosines between their rows.

use moerge_core::{
    error::Result,
    model::families::{LayerRole, Role},
    plan::Slots,
};
use moerge_infer::model::Model;

/// Per layer, the gate matrix `[experts, hidden]`, row after row.
pub(super) fn read(model: &Model) -> Result<Vec<Vec<f32>>> {
    let weights = model.weights()?;
    let mut gates = Vec::new();
    for tensor in &model.description().tensors {
        if let Role::Layer(_, LayerRole::Router) = tensor.role {
            let mut gate = vec![0.0; tensor.shape.iter().product()];
            weights.read_rows(tensor.role, 0..tensor.shape.first().copied().unwrap_or(0), &mut gate)?;
            gates.push(gate);
        }
    }
    Ok(gates)
}

/// A layer's gate with one row per expert; rows of absent experts are zero.
pub(super) fn by_expert(gate: &[f32], slots: &Slots, layer: usize) -> Vec<f32> {
    let hidden = gate.len() / slots.width().max(1);
    let row = |expert: usize| {
        let slot = slots.slot(layer, expert);
        let row = slot.and_then(|slot| gate.get(slot * hidden..(slot + 1) * hidden));
        row.map_or_else(|| vec![0.0; hidden], <[f32]>::to_vec)
    };
    (0..slots.experts()).flat_map(row).collect()
}

/// Cosine of each pair of rows of `gate` `[experts, hidden]`; 0 if either row is zero.
pub fn cosines(gate: &[f32], experts: usize) -> Vec<Vec<f64>> {
    let rows: Vec<&[f32]> = gate.chunks(gate.len().div_ceil(experts.max(1)).max(1)).collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let cosine = |a: &[f32], b: &[f32]| {
        let norms = (dot(a, a) * dot(b, b)).sqrt();
        if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
    };
    rows.iter().map(|a| rows.iter().map(|b| cosine(a, b)).collect()).collect()
}
