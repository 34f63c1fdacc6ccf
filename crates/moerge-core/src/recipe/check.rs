//! The rules between a recipe's values, each with its place and its hint.
//!
//! Run after [`Recipe::load`] has read the prompt files. A value that is wrong by itself never gets this far
//! ([`Recipe::parse`] refuses it); what depends on the models (families, shapes) is the plan's.

use std::collections::{BTreeMap, HashSet};

use crate::{
    error::{Cause, Error, Result},
    recipe::{Expert, GateMode, Label, Recipe, SharedWeights},
};

/// What the user insists on.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckOptions {
    /// `--i-understand-this-is-not-useful-without-training`: an MoE whose experts are all the same, or only one.
    pub allow_same_experts: bool,
}

/// Checks every rule; the result is warnings.
///
/// mergekit lets an MoE of equal experts pass when `gate_mode` is `random`, as a start for training; so does this, with
/// a warning.
pub fn check(recipe: &Recipe, options: &CheckOptions) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    check_numbers(recipe, options, &mut warnings)?;
    check_shared(recipe)?;
    if recipe.gate_mode.needs_prompts() {
        check_prompts(recipe, &mut warnings)?;
    } else if recipe.gate_mode.is_random() {
        warn_of_unused_prompts(recipe, &mut warnings);
    }
    if !recipe.gate_mode.is_fitted() && recipe.experts.iter().any(|e| !e.validation.is_empty()) {
        let mode = recipe.gate_mode.name();
        warnings
            .push(format!("`validation` is for routers that are fitted to text; `gate_mode: {mode}` does not use it"));
    }
    if recipe.gate_mode == GateMode::PhatGoose {
        warn_of_what_training_ignores(recipe, &mut warnings);
    }
    check_shared_weights(recipe, &mut warnings)?;
    check_models(recipe, options, &mut warnings)?;
    Ok(warnings)
}

/// More experts than this are a slip (or an attack), not a model.
const MOST_EXPERTS: usize = 4096;

fn check_numbers(recipe: &Recipe, options: &CheckOptions, warnings: &mut Vec<String>) -> Result<()> {
    let per_token = &recipe.experts_per_token;
    let experts = match recipe.experts.as_slice() {
        [] => {
            return Err(Error::input("the recipe has no experts")
                .at(recipe.snippet(&recipe.base_model.span, "the base alone is no Mixture of Experts"))
                .hint("list at least two models under `experts`"));
        }
        [only] => {
            let message = "the recipe has only one expert, so its router has nothing to choose";
            if !options.allow_same_experts && recipe.gate_mode != GateMode::Random {
                return Err(Error::input(message)
                    .at(recipe.snippet(&only.source_model.span, "the only expert"))
                    .hint("list at least two models under `experts`")
                    .cause(Cause::SameExperts));
            }
            warnings.push(message.into());
            "is only 1 expert".to_owned()
        }
        many => format!("are only {} experts", many.len()),
    };
    if let Some(beyond) = recipe.experts.get(MOST_EXPERTS) {
        return Err(Error::input(format!("the recipe has {} experts", recipe.experts.len()))
            .at(recipe.snippet(&beyond.source_model.span, format!("{MOST_EXPERTS} are the most"))));
    }
    if per_token.value == 0 {
        return Err(Error::input("`experts_per_token` is 0, so no token would reach an expert")
            .at(recipe.snippet(&per_token.span, ""))
            .hint("1 or more; 2 is usual"));
    }
    if recipe.experts.len() < per_token.value {
        let error = Error::input(format!("`experts_per_token` is {}, but there {experts}", per_token.value));
        if per_token.span.is_empty() {
            let line = format!("`experts_per_token: {}`", recipe.experts.len());
            return Err(error.hint(format!("2 is the default; add {line}, or another expert")));
        }
        let most = recipe.experts.len();
        let error = error.at(recipe.snippet(&per_token.span, ""));
        return Err(error.hint(format!("`experts_per_token: {most}` or less, or another expert")));
    }
    Ok(())
}

fn check_shared_weights(recipe: &Recipe, warnings: &mut Vec<String>) -> Result<()> {
    let given = recipe.experts.iter().any(|e| e.shared_weight.is_some());
    match recipe.shared_weights {
        SharedWeights::Base if given => {
            warnings.push(
                "`shared_weight` counts in `shared_weights: average` only; here these weights are the base's".into(),
            );
        }
        SharedWeights::Average if recipe.experts.iter().all(|e| e.shared_weight == Some(0.0)) => {
            return Err(Error::input("`shared_weight` is 0 for all experts, so there is nothing to average")
                .hint("leave it out where an expert shall count, or write `shared_weights: base`"));
        }
        _ => {}
    }
    Ok(())
}

fn check_shared(recipe: &Recipe) -> Result<()> {
    if let [_, second, ..] = recipe.shared_experts.as_slice() {
        return Err(Error::input(format!("the recipe has {} shared experts", recipe.shared_experts.len()))
            .at(recipe.snippet(&second.source_model.span, "the second"))
            .hint("no MoE family has more than one; keep one, or make the others routed experts"));
    }
    for shared in &recipe.shared_experts {
        if let Some(range) = shared.layers.as_ref().and_then(|layers| layers.ranges().first()) {
            return Err(Error::input("a shared expert is in every layer")
                .at(recipe.snippet(&range.span, ""))
                .hint("`layers` is for routed experts"));
        }
        if shared.positive_prompts.is_empty() && !shared.negative_prompts.is_empty() {
            return Err(Error::input("the shared expert has negative prompts but no positive ones")
                .at(recipe.snippet(&shared.source_model.span, ""))
                .hint("add `positive_prompts`, or delete the negative ones"));
        }
    }
    Ok(())
}

fn check_prompts_differ(recipe: &Recipe, warnings: &mut Vec<String>) -> Result<()> {
    let mut alike: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, expert) in recipe.experts.iter().enumerate() {
        alike.entry((&expert.positive_prompts, &expert.negative_prompts)).or_default().push(index);
    }
    if let ([_, second, ..], 1) = (recipe.experts.as_slice(), alike.len()) {
        return Err(Error::input("the prompts are the same for all experts, so their gates would be too")
            .at(recipe.snippet(&second.source_model.span, "the same prompts as expert 0"))
            .hint("give each expert prompts like the texts it should see"));
    }
    for group in alike.into_values().filter(|group| group.len() > 1) {
        let numbers: Vec<String> = group.iter().map(usize::to_string).collect();
        warnings.push(format!("experts {} have the same prompts, so also the same gates", numbers.join(", ")));
    }
    Ok(())
}

fn check_prompts(recipe: &Recipe, warnings: &mut Vec<String>) -> Result<()> {
    let mode = recipe.gate_mode.name();
    if let Some((index, expert)) = recipe.experts.iter().enumerate().find(|(_, e)| e.positive_prompts.is_empty()) {
        return Err(Error::input(format!("expert {index} has no positive prompts"))
            .at(recipe.snippet(&expert.source_model.span, format!("`gate_mode: {mode}` makes its router from them")))
            .hint("add `positive_prompts`, or use `gate_mode: random` and train the routers"));
    }
    // Where losses say whose a token is, one and the same text will do for all.
    if recipe.fit.label != Label::Loss || !recipe.gate_mode.is_fitted() {
        check_prompts_differ(recipe, warnings)?;
    }
    for (index, expert) in recipe.experts.iter().enumerate() {
        let positive: HashSet<&str> = expert.positive_prompts.iter().map(String::as_str).collect();
        if expert.negative_prompts.iter().any(|p| positive.contains(p.as_str())) {
            warnings.push(format!("expert {index} has a prompt that is both positive and negative"));
        }
    }
    Ok(())
}

fn warn_of_unused_prompts(recipe: &Recipe, warnings: &mut Vec<String>) {
    let mode = recipe.gate_mode.name();
    if recipe.experts.iter().chain(&recipe.shared_experts).any(|e| prompts(e).next().is_some()) {
        warnings.push(format!("`gate_mode: {mode}` uses no prompts; those of the recipe are ignored"));
    }
}

fn warn_of_what_training_ignores(recipe: &Recipe, warnings: &mut Vec<String>) {
    if recipe.experts.iter().any(|e| !e.negative_prompts.is_empty()) {
        warnings
            .push("`gate_mode: phatgoose` learns from positive prompts only; negative ones count for nothing".into());
    }
    if recipe.fit.label == Label::Loss {
        warnings.push("`label: loss` changes the report of `gate_mode: phatgoose` only, not its gates".into());
    }
}

fn check_models(recipe: &Recipe, options: &CheckOptions, warnings: &mut Vec<String>) -> Result<()> {
    let [first, second, ..] = recipe.experts.as_slice() else { return Ok(()) };
    if recipe.experts.iter().any(|e| *e.source_model != *first.source_model) {
        return Ok(());
    }
    let noisy = recipe.experts.iter().any(|e| e.noise_scale.is_some_and(|s| s > 0.0));
    let effect = if noisy { "they differ by noise only" } else { "the result is larger and slower, and says the same" };
    let message = format!("all experts are the same model: {effect}");
    if !options.allow_same_experts && recipe.gate_mode != GateMode::Random {
        return Err(Error::input(message)
            .at(recipe.snippet(&second.source_model.span, "the same as expert 0"))
            .hint("use models that were fine-tuned for different things")
            .cause(Cause::SameExperts));
    }
    warnings.push(message);
    Ok(())
}

fn prompts(expert: &Expert) -> impl Iterator<Item = &String> {
    expert.positive_prompts.iter().chain(&expert.negative_prompts)
}

#[cfg(test)]
mod tests;
