//! Whether the experts' prompts can make the routers that `gate_mode` asks for.

use std::collections::{BTreeMap, HashSet};

use super::Findings;
use crate::{
    error::Error,
    recipe::{Expert, GateMode, Label},
};

pub(super) fn check(findings: &mut Findings) {
    let recipe = findings.recipe;
    let mode = recipe.gate_mode;
    if mode.is_random() {
        if recipe.experts.iter().chain(&recipe.shared_experts).any(|e| all(e).any(|prompt| !is_empty(prompt))) {
            findings.warn(format!("`gate_mode: {}` uses no prompts; those of the recipe are ignored", mode.name()));
        }
        return;
    }
    warn_of_empty_prompts(findings);
    if mode == GateMode::PhatGoose && recipe.experts.iter().any(|e| !e.negative_prompts.is_empty()) {
        findings.warn("`gate_mode: phatgoose` learns from positive prompts only; it ignores negative ones");
    }
    if !mode.needs_prompts() {
        return;
    }
    check_there_are_some(findings);
    // With labels by loss, the experts can share one text.
    if findings.errors.is_empty() && (recipe.fit.label != Label::Loss || !mode.is_fitted()) {
        check_they_differ(findings);
    }
    for (index, expert) in recipe.experts.iter().enumerate() {
        let positive: HashSet<&str> = expert.positive_prompts.iter().map(String::as_str).collect();
        if expert.negative_prompts.iter().any(|p| positive.contains(p.as_str())) {
            findings.warn(format!("expert {index} has a prompt that is both positive and negative"));
        }
    }
}

fn all(expert: &Expert) -> impl Iterator<Item = &String> {
    expert.positive_prompts.iter().chain(&expert.negative_prompts)
}

/// Whether a prompt has no text. Spaces are tokens like others, but say nothing.
fn is_empty(prompt: &str) -> bool {
    prompt.trim().is_empty()
}

/// An empty prompt is allowed, as in mergekit, but rarely meant.
fn warn_of_empty_prompts(findings: &mut Findings) {
    let recipe = findings.recipe;
    let mode = recipe.gate_mode;
    let with = |of: &dyn Fn(&str) -> bool| {
        let some = recipe.experts.iter().enumerate().filter(|(_, e)| all(e).any(|prompt| of(prompt)));
        let numbers = some.map(|(index, _)| index.to_string()).collect::<Vec<_>>();
        let shared = recipe.shared_experts.iter().any(|e| all(e).any(|prompt| of(prompt)));
        let experts = match numbers.as_slice() {
            [] => None,
            [only] => Some(format!("expert {only}")),
            many => Some(format!("experts {}", many.join(", "))),
        };
        let have = if numbers.len() + usize::from(shared) > 1 { "have" } else { "has" };
        let shared = shared.then(|| "the shared expert".to_owned());
        let who: Vec<String> = experts.into_iter().chain(shared).collect();
        (!who.is_empty()).then(|| format!("{} {have}", who.join(" and ")))
    };
    if mode.is_fitted() {
        if let Some(who) = with(&is_empty) {
            findings.warn(format!("{who} an empty prompt; `gate_mode: {}` ignores it", mode.name()));
        }
        return;
    }
    if let Some(who) = with(&str::is_empty) {
        findings.warn(format!("{who} an empty prompt; it stands for the bos token alone, as in mergekit"));
    }
    if let Some(who) = with(&|prompt| is_empty(prompt) && !prompt.is_empty()) {
        findings.warn(format!("{who} a prompt of spaces only; they are tokens like others"));
    }
}

fn check_there_are_some(findings: &mut Findings) {
    let recipe = findings.recipe;
    let mode = recipe.gate_mode;
    // Fitted modes need text; one bos token says as little about all experts.
    let usable = |prompt: &String| !mode.is_fitted() || !is_empty(prompt);
    for (index, expert) in recipe.experts.iter().enumerate() {
        if expert.positive_prompts.iter().any(usable) {
            continue;
        }
        let label = format!("`gate_mode: {}` makes its router from them", mode.name());
        findings.error(
            Error::input(format!("expert {index} has no positive prompts"))
                .at(recipe.snippet(&expert.source_model.span, label))
                .hint("`gate_mode: self_calibrated` needs none: the experts generate the text")
                .hint("or add `positive_prompts`; `gate_mode: random` is for training afterwards"),
        );
    }
}

fn check_they_differ(findings: &mut Findings) {
    let recipe = findings.recipe;
    let mut alike: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, expert) in recipe.experts.iter().enumerate() {
        alike.entry((&expert.positive_prompts, &expert.negative_prompts)).or_default().push(index);
    }
    if let ([_, second, ..], 1) = (recipe.experts.as_slice(), alike.len()) {
        return findings.error(
            Error::input("the prompts are the same for all experts, so their gates would be too")
                .at(recipe.snippet(&second.source_model.span, "the same prompts as expert 0"))
                .hint("`gate_mode: self_calibrated` needs none: the experts generate the text")
                .hint("or give each expert prompts like the texts it should see"),
        );
    }
    for group in alike.into_values().filter(|group| group.len() > 1) {
        let numbers: Vec<String> = group.iter().map(usize::to_string).collect();
        findings.warn(format!("experts {} have the same prompts, so also the same gates", numbers.join(", ")));
    }
}
