//! From vectors of prompts to rows of gates: mean, minus what the expert is not for, divided by the norm.

use super::{Routers, prompts::PromptIndices};
use moerge_core::{
    error::{Error, Result},
    plan::Routing,
    progress::Progress,
};

/// Norms below this are taken for it, as mergekit does.
const SMALLEST_NORM: f64 = 1e-8;

/// Divides by the L2 norm.
pub(super) fn normalise(vector: &mut [f64]) {
    let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(SMALLEST_NORM);
    vector.iter_mut().for_each(|x| *x /= norm);
}

/// An expert's row `[hidden]` in one layer: `combine` makes one vector of those of several prompts.
pub(super) fn row(prompts: &PromptIndices, combine: impl Fn(&[usize]) -> Vec<f64>) -> Vec<f32> {
    let mut row = combine(&prompts.positive);
    if !prompts.negative.is_empty() {
        row.iter_mut().zip(combine(&prompts.negative)).for_each(|(x, negative)| *x -= negative);
    }
    normalise(&mut row);
    row.into_iter().map(|x| x as f32).collect()
}

/// Puts the rows `layers[layer][expert]`, the shared expert's last, together, and refuses those that say nothing.
pub(super) fn assemble(
    routing: &Routing,
    hidden: usize,
    layers: Vec<Vec<Vec<f32>>>,
    progress: &dyn Progress,
) -> Result<Routers> {
    let experts = routing.experts.len();
    for expert in 0..experts + usize::from(routing.shared_expert.is_some()) {
        let name = if expert < experts { format!("expert {expert}") } else { "the shared expert".to_owned() };
        check(&name, layers.iter().map(|rows| &rows[expert][..]), progress)?;
    }
    let mut gates = Vec::new();
    let mut shared_gates = Vec::new();
    for (layer, mut rows) in layers.into_iter().enumerate() {
        if routing.shared_expert.is_some() {
            shared_gates.extend(rows.pop());
        }
        gates.push(routing.slots.in_layer(layer).iter().flat_map(|expert| &rows[*expert]).copied().collect());
    }
    Ok(Routers { experts: routing.slots.width(), hidden, gates, shared_gates })
}

/// Two prompts that end in the same token begin alike, so a row may be zero in a layer or two, but not in all.
fn check<'a>(name: &str, rows: impl Iterator<Item = &'a [f32]>, progress: &dyn Progress) -> Result<()> {
    let (mut zero, mut layers) = (Vec::new(), 0);
    for row in rows {
        if row.iter().any(|x| !x.is_finite()) {
            return Err(Error::input(format!("the base model's numbers for the prompts of {name} are not finite"))
                .fact("layer", layers.to_string())
                .hint("its weights may hold NaN or infinite numbers, or not fit its config.json"));
        }
        if row.iter().all(|x| *x == 0.0) {
            zero.push(layers.to_string());
        }
        layers += 1;
    }
    if zero.len() == layers {
        return Err(Error::input(format!("the prompts of {name} give no direction: its gate would be all zeros"))
            .hint("its negative prompts cancel its positive prompts; make them differ"));
    }
    if !zero.is_empty() {
        progress.note(&format!(
            "the gate of {name} is all zeros in layer {}: its negative prompts cancel its positive prompts there",
            zero.join(", ")
        ));
    }
    Ok(())
}
