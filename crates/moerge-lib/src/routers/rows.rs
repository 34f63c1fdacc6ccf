//! Combines the vectors of prompts into gate rows: the mean of the positive prompts minus that of the negative ones,
//! divided by the norm.

use super::{Routers, prompts::PromptIndices};
use moerge_core::{
    error::{Error, Result},
    plan::Routing,
    progress::Progress,
};

/// Smaller norms are replaced by this, as in mergekit.
const SMALLEST_NORM: f64 = 1e-8;

/// Divides by the L2 norm.
pub(super) fn normalise(vector: &mut [f64]) {
    let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(SMALLEST_NORM);
    vector.iter_mut().for_each(|x| *x /= norm);
}

/// The row `[hidden]` of an expert in a layer; `combine` reduces the vectors of several prompts to one.
pub(super) fn row(prompts: &PromptIndices, combine: impl Fn(&[usize]) -> Vec<f64>) -> Vec<f32> {
    let mut row = combine(&prompts.positive);
    if !prompts.negative.is_empty() {
        row.iter_mut().zip(combine(&prompts.negative)).for_each(|(x, negative)| *x -= negative);
    }
    normalise(&mut row);
    row.into_iter().map(|x| x as f32).collect()
}

/// Makes routers of the rows `layers[layer][expert]`, with the shared expert's row last, and refuses meaningless rows.
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

/// A row may be zero in the first layers, for prompts that end in the same token, but not in all layers.
fn check<'a>(name: &str, rows: impl Iterator<Item = &'a [f32]>, progress: &dyn Progress) -> Result<()> {
    let (mut zero, mut layers) = (Vec::new(), 0);
    for row in rows {
        if row.iter().any(|x| !x.is_finite()) {
            return Err(Error::input(format!("the base's activations on the prompts of {name} are not finite"))
                .fact("layer", layers.to_string())
                .hint("its weights may contain NaN or infinities, or not match its config.json"));
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
