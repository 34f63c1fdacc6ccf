//! Experts that are all the same model.

use super::Findings;
use crate::{
    error::{Cause, Error},
    recipe::GateMode,
};

pub(super) fn check(findings: &mut Findings) {
    let recipe = findings.recipe;
    let [first, second, ..] = recipe.experts.as_slice() else { return };
    if recipe.experts.iter().any(|e| *e.source_model != *first.source_model) {
        return;
    }
    let noisy = recipe.experts.iter().any(|e| e.noise_scale.is_some_and(|s| s > 0.0));
    let effect = if noisy { "they differ by noise only" } else { "the result is larger and slower, and says the same" };
    let message = format!("all experts are the same model: {effect}");
    if findings.options.allow_same_experts || recipe.gate_mode == GateMode::Random {
        return findings.warn(message);
    }
    findings.error(
        Error::input(message)
            .at(recipe.snippet(&second.source_model.span, "the same as expert 0"))
            .hint("use models that were fine-tuned for different things")
            .cause(Cause::SameExperts),
    );
}
