//! Makes [`Routers`] from a [`Routing`], for all modes that are not fitted.

use super::{Routers, cheap_embed::cheap_embed, hidden::hidden, prompts::PromptSet, random::random_routers};
use moerge_core::{
    error::{Error, Result},
    plan::Routing,
    progress::Progress,
    recipe::GateMode,
};
use moerge_infer::{
    decoder::{WeightRounding, Weights},
    tokenizer::Tokenizer,
};

/// Makes the routers described by `routing`; `weights` are those of the base.
///
/// The tokenizer is needed only for modes with prompts. Only `hidden` and `hidden_avg` read the layers, with their
/// weights rounded by `rounding`.
///
/// # Errors
/// A prompt is missing or cannot be tokenized, the weights cannot be read, or the user stops the run.
pub fn make_routers(
    routing: &Routing,
    weights: &dyn Weights,
    tokenizer: Option<&Tokenizer>,
    rounding: Option<WeightRounding>,
    progress: &dyn Progress,
) -> Result<Routers> {
    let options = &weights.description().decoder;
    if !routing.gate_mode.needs_prompts() {
        return Ok(random_routers(routing, options.layers.len(), options.hidden));
    }
    let mode = routing.gate_mode.name();
    let tokenizer = tokenizer.ok_or_else(|| Error::input(format!("gate_mode {mode} needs the base's tokenizer")))?;
    if let Some(name) = without_prompts(routing) {
        return Err(Error::input(format!("{name} has no positive prompts, which gate_mode {mode} needs"))
            .hint("`gate_mode: self_calibrated` needs none: the experts generate the text"));
    }
    let prompts = PromptSet::new(routing, tokenizer, progress)?;
    match routing.gate_mode {
        GateMode::CheapEmbed => cheap_embed(routing, &prompts, weights, progress),
        _ => hidden(routing, &prompts, weights, rounding, progress),
    }
}

/// The first expert without positive prompts.
fn without_prompts(routing: &Routing) -> Option<String> {
    let expert = routing.experts.iter().position(|p| p.positive.is_empty()).map(|e| format!("expert {e}"));
    expert.or_else(|| {
        routing.shared_expert.as_ref().filter(|p| p.positive.is_empty()).map(|_| "the shared expert".into())
    })
}
