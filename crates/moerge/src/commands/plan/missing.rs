//! The plan of a recipe whose models are neither on this machine nor reachable: what the recipe alone says.

use std::{io::Write as _, path::Path, process::ExitCode};

use moerge_core::{
    model::locate::{ModelNotFound, Why, locate},
    recipe::{DenseRecipe, Document, Expert, ModelRef, Output, Recipe},
};
use moerge_lib::merge::MergeOptions;
use serde_json::{Value, json};

use super::super::storages::models;
use super::page::{prompts, row};
use crate::{
    console,
    hints::with_flags,
    terminal::{HINT, LABEL, harmless, styled, table},
};

/// A reference of the recipe, and why its model was not found.
pub type Missing = (String, ModelNotFound);

/// The models of a recipe that would have to be downloaded, each once. Empty if one is a folder that does not exist:
/// that is a mistake, reported where it is in the recipe.
pub fn not_downloaded(recipe: &Document, recipe_dir: &Path, options: &MergeOptions) -> Vec<Missing> {
    let mut missing: Vec<Missing> = Vec::new();
    for reference in recipe.models() {
        let reference = &reference.value;
        let name = reference.to_string();
        if missing.iter().any(|(seen, _)| *seen == name) {
            continue;
        }
        match locate(models().as_ref(), reference, recipe_dir, &options.cache) {
            Ok(_) => {}
            Err(not_found) if not_found.why == Why::Missing => return Vec::new(),
            Err(not_found) => missing.push((name, not_found)),
        }
    }
    missing
}

/// Prints what the recipe alone says, and how to get the missing models, or `why` the Hub could not be asked.
pub fn print(
    recipe: &Document,
    missing: &[Missing],
    why: Option<moerge_core::Error>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    match &recipe.output {
        Output::Moe(recipe) => print_experts(recipe, missing, as_json)?,
        Output::Dense(recipe) => print_models(recipe, missing, as_json)?,
    }
    if let Some(why) = why {
        return Err(why.into());
    }
    let first = moerge_core::Error::from(missing[0].1.clone());
    let mut error = moerge_core::Error::input(match missing.len() {
        1 => first.parts().message.clone(),
        n => format!("{n} models are not on this machine"),
    });
    for (_, not_found) in missing {
        for hint in &with_flags(&moerge_core::Error::from(not_found.clone())).parts().hints {
            error = error.hint(hint.clone());
        }
    }
    Err(error.into())
}

/// The models of a dense recipe, and which of them are on this machine.
fn print_models(recipe: &DenseRecipe, missing: &[Missing], as_json: bool) -> anyhow::Result<()> {
    let mut out = console::results();
    let mut names: Vec<String> = Vec::new();
    for name in recipe.models().map(|reference| reference.value.to_string()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let here = |name: &String| !missing.iter().any(|(missing, _)| missing == name);
    if as_json {
        let models: Value = names.iter().map(|n| json!({ "reference": n, "downloaded": here(n) })).collect();
        writeln!(out, "{:#}", json!({ "merge_method": recipe.merge_method.name, "models": models }))?;
        return Ok(());
    }
    let state = |name| if here(name) { "downloaded".to_owned() } else { styled(HINT, "not downloaded") };
    let rows: Vec<Vec<String>> = names.iter().map(|n| vec![row("model"), harmless(n), state(n)]).collect();
    let models = crate::numbers::count(names.len(), "model");
    out.line(&styled(LABEL, &format!("{} of {models}", recipe.merge_method.name)))?;
    Ok(out.lines(table(&rows, &[]))?)
}

/// The experts of an MoE recipe, and which of their models are on this machine.
fn print_experts(recipe: &Recipe, missing: &[Missing], as_json: bool) -> anyhow::Result<()> {
    let here = |reference: &ModelRef| !missing.iter().any(|(name, _)| *name == reference.to_string());
    let mut out = console::results();
    let numbered = recipe.experts.iter().enumerate().map(|(i, e)| (format!("expert {i}"), e));
    let experts = numbered.chain(recipe.shared_experts.iter().map(|e| ("shared".to_owned(), e)));
    if as_json {
        let expert = |e: &Expert| {
            json!({
                "reference": e.source_model.value.to_string(), "downloaded": here(&e.source_model.value),
                "positive_prompts": e.positive_prompts, "negative_prompts": e.negative_prompts,
            })
        };
        let base = &recipe.base_model.value;
        let plan = json!({
            "base": { "reference": base.to_string(), "downloaded": here(base) },
            "expert_models": recipe.experts.iter().map(expert).collect::<Value>(),
            "experts_per_token": recipe.experts_per_token.value, "gate_mode": recipe.gate_mode.name(),
            "not_downloaded": missing.iter().map(|(name, _)| name.as_str()).collect::<Value>(),
        });
        writeln!(out, "{plan:#}")?;
    } else {
        let state = |reference: &ModelRef| {
            if here(reference) { "downloaded".to_owned() } else { styled(HINT, "not downloaded") }
        };
        let base = &recipe.base_model.value;
        let mut rows = vec![vec![row("base"), harmless(&base.to_string()), state(base)]];
        rows.extend(experts.map(|(label, e)| {
            let reference = &e.source_model.value;
            let prompts = prompts(&e.positive_prompts, &e.negative_prompts);
            vec![row(&label), harmless(&reference.to_string()), state(reference), prompts]
        }));
        let (experts, per_token) = (recipe.experts.len(), recipe.experts_per_token.value);
        let what = format!("{experts} experts, {per_token} per token, gate_mode {}", recipe.gate_mode.name());
        out.line(&styled(LABEL, &what))?;
        out.lines(table(&rows, &[]))?;
    }
    Ok(())
}
