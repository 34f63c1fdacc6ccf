//! The rules between a recipe's values, each with its place and its hint.
//!
//! Run after [`Recipe::load`] has read the prompt files. [`Recipe::parse`] has refused values that are invalid
//! by themselves; rules that depend on the models (families, shapes) belong to the plan.

mod models;
mod prompts;

use super::{
    read::Doubts,
    source::{MAX_FAULTS, together},
};
use crate::{
    error::{Error, Result},
    recipe::{GateMode, Label, Recipe, SharedWeights},
};

/// What the user allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckOptions {
    /// An MoE with experts that are all the same model, or with a single expert.
    pub allow_same_experts: bool,
}

/// What the rules found.
struct Findings<'a> {
    recipe: &'a Recipe,
    options: CheckOptions,
    errors: Vec<Error>,
    /// Errors that are not shown, because there are many.
    beyond: usize,
    warnings: Vec<String>,
}

impl Findings<'_> {
    fn error(&mut self, error: Error) {
        if self.errors.len() < MAX_FAULTS { self.errors.push(error) } else { self.beyond += 1 }
    }

    fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }
}

/// Checks every rule; the result is warnings, or all errors as one.
///
/// mergekit lets an MoE of equal experts pass when `gate_mode` is `random`, as a start for training; so does this, with
/// a warning.
///
/// # Errors
/// A rule is broken.
pub fn check(recipe: &Recipe, options: &CheckOptions) -> Result<Vec<String>> {
    let findings = findings(recipe, *options, Doubts::default());
    match together(&recipe.name, findings.errors, findings.beyond) {
        Some(error) => Err(error),
        None => Ok([&recipe.warnings[..], &findings.warnings].concat()),
    }
}

/// The rules that are broken by what could be read of a recipe that has other faults. Rules about what is in doubt are
/// left out: their errors would only follow from those faults.
pub(super) fn faults_of_draft(recipe: &Recipe, doubts: Doubts) -> Vec<Error> {
    findings(recipe, CheckOptions { allow_same_experts: true }, doubts).errors
}

fn findings(recipe: &Recipe, options: CheckOptions, doubts: Doubts) -> Findings<'_> {
    let mut findings = Findings { recipe, options, errors: Vec::new(), beyond: 0, warnings: Vec::new() };
    if let Some(beyond) = recipe.experts.get(MAX_EXPERTS) {
        let error = Error::input(format!("the recipe has {} experts", recipe.experts.len()));
        findings
            .error(error.at(recipe.snippet(&beyond.source_model.span, format!("at most {MAX_EXPERTS} are allowed"))));
        return findings;
    }
    if !doubts.list {
        check_number_of_experts(&mut findings);
        if !doubts.experts_per_token {
            check_experts_per_token(&mut findings);
        }
    }
    if !doubts.shared_experts {
        check_shared_experts(&mut findings);
    }
    if !doubts.list && !doubts.experts {
        if !doubts.gate_mode && !doubts.shared_experts {
            prompts::check(&mut findings);
            warn_of_unused_settings(&mut findings);
        }
        check_shared_weights(&mut findings);
        models::check(&mut findings);
    }
    findings
}

/// Maximum number of experts: no model has more.
const MAX_EXPERTS: usize = 4096;

fn check_number_of_experts(findings: &mut Findings) {
    let recipe = findings.recipe;
    match recipe.experts.as_slice() {
        [] => {
            let error = Error::input("the recipe has no experts").hint("list at least two models under `experts`");
            let base = &recipe.base_model.span;
            findings.error(match base.is_empty() {
                true => error,
                false => error.at(recipe.snippet(base, "the base alone is not a Mixture of Experts")),
            });
        }
        [only] => {
            let message = "the recipe has only one expert, so its router has nothing to choose";
            if findings.options.allow_same_experts || recipe.gate_mode == GateMode::Random {
                findings.warn(message);
            } else {
                findings.error(
                    Error::input(message)
                        .at(recipe.snippet(&only.source_model.span, "the only expert"))
                        .hint("list at least two models under `experts`")
                        .cause(crate::error::Cause::SameExperts),
                );
            }
        }
        _ => {}
    }
}

fn check_experts_per_token(findings: &mut Findings) {
    let recipe = findings.recipe;
    let (per_token, experts) = (&recipe.experts_per_token, recipe.experts.len());
    if per_token.value == 0 {
        let error = Error::input("`experts_per_token` is 0, so no token would reach an expert");
        return findings.error(error.at(recipe.snippet(&per_token.span, "")).hint("1 or more; 2 is usual"));
    }
    // No experts, or one that may not stand alone, is an error already.
    if experts == 0 || experts >= per_token.value || (per_token.span.is_empty() && !findings.errors.is_empty()) {
        return;
    }
    let there = if experts == 1 { "is only 1 expert".to_owned() } else { format!("are only {experts} experts") };
    let error = Error::input(format!("`experts_per_token` is {}, but there {there}", per_token.value));
    findings.error(match per_token.span.is_empty() {
        true => error.hint(format!("2 is the default; add `experts_per_token: {experts}`, or another expert")),
        false => error
            .at(recipe.snippet(&per_token.span, ""))
            .hint(format!("`experts_per_token: {experts}` or less, or another expert")),
    });
}

fn check_shared_weights(findings: &mut Findings) {
    let recipe = findings.recipe;
    let given = recipe.experts.iter().any(|e| e.shared_weight.is_some());
    match &recipe.shared_weights {
        SharedWeights::Base if given => findings
            .warn("`shared_weight` has an effect where `shared_weights` are merged; here these weights are the base's"),
        SharedWeights::Average | SharedWeights::Merge(_)
            if recipe.experts.iter().all(|e| e.shared_weight == Some(0.0)) =>
        {
            findings.error(
                Error::input("`shared_weight` is 0 for all experts, so there is nothing to merge")
                    .hint("leave it out for experts that should count, or write `shared_weights: base`"),
            )
        }
        _ => {}
    }
}

fn check_shared_experts(findings: &mut Findings) {
    let recipe = findings.recipe;
    if let [_, second, ..] = recipe.shared_experts.as_slice() {
        findings.error(
            Error::input(format!("the recipe has {} shared experts", recipe.shared_experts.len()))
                .at(recipe.snippet(&second.source_model.span, "the second"))
                .hint("no MoE family has more than one; keep one, or make the others routed experts"),
        );
    }
    for shared in &recipe.shared_experts {
        if let Some(range) = shared.layers.as_ref().and_then(|layers| layers.ranges().first()) {
            findings.error(
                Error::input("a shared expert is in every layer")
                    .at(recipe.snippet(&range.span, ""))
                    .hint("`layers` is for routed experts"),
            );
        }
        let positive = !shared.positive_prompts.is_empty() || shared.positive_prompts_file.is_some();
        if !positive && !shared.negative_prompts.is_empty() && !recipe.gate_mode.is_random() {
            findings.error(
                Error::input("the shared expert has negative prompts but no positive ones")
                    .at(recipe.snippet(&shared.source_model.span, ""))
                    .hint("add `positive_prompts`, or delete the negative ones"),
            );
        }
    }
}

fn warn_of_unused_settings(findings: &mut Findings) {
    let recipe = findings.recipe;
    let mode = recipe.gate_mode.name();
    if !recipe.gate_mode.is_fitted() && recipe.experts.iter().any(|e| !e.validation.is_empty()) {
        findings
            .warn(format!("`validation` is for routers that are fitted to text; `gate_mode: {mode}` does not use it"));
    }
    if recipe.gate_mode == GateMode::PhatGoose && recipe.fit.label == Label::Loss {
        findings.warn("`label: loss` changes the report of `gate_mode: phatgoose` only, not its gates");
    }
}

#[cfg(test)]
mod tests;
