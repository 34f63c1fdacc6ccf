//! The tokenizer of a dense merge: what it has otherwise than the model that it is copied from, and what merging
//! vocabularies takes.

use moerge_checkpoint::ReadStorage;
use moerge_core::{
    error::Result,
    model::{
        files::{CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, read_text},
        named_model::NamedModel,
        source::{Vocabulary, token_without_row},
        tokenizer_overrides::TokenizerOverrides,
    },
    output::{
        chat_template,
        files::{OptionalFiles, copied},
    },
    plan::{DenseModels, DensePlan},
    recipe::DenseRecipe,
};
use serde_json::Value;

use crate::verify::small_files;

/// Bytes of memory per byte of a `tokenizer.json` that is parsed to merge vocabularies: its JSON, its tokens, and the
/// written text. Measured: 6.5 to 7 with two to five of SmolLM2's.
const PARSED_TOKENIZER: u64 = 8;

/// What the output's tokenizer has otherwise than the folder of `plan.tokenizer`.
///
/// # Errors
/// The recipe's chat template is unknown.
pub(super) fn overrides(
    storage: &dyn ReadStorage,
    recipe: &DenseRecipe,
    models: &DenseModels,
    plan: &DensePlan,
) -> Result<TokenizerOverrides> {
    let of_model = &models.0[plan.tokenizer].overrides;
    let chat_template = match &recipe.chat_template {
        Some(written) => {
            let templates: Vec<Option<String>> = models.0.iter().map(|model| template_of(storage, model)).collect();
            let chosen = chat_template::chosen(written, &templates);
            Some(chosen.map_err(|error| error.at(recipe.snippet(&written.span, "")))?)
        }
        None => of_model.chat_template.clone(),
    };
    let vocabulary = plan.tokenizer_file.clone().or_else(|| of_model.vocabulary.clone());
    Ok(TokenizerOverrides { vocabulary, chat_template })
}

/// Merged vocabularies hold every model's parsed tokenizer and the result; a copied one is only its bytes.
pub(super) fn memory(storage: &dyn ReadStorage, recipe: &DenseRecipe, models: &DenseModels, plan: &DensePlan) -> u64 {
    let length = |model: &NamedModel| model.overrides.tokenizer_bytes(storage, &model.dir);
    let lengths: Vec<u64> = models.0.iter().map(length).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    if recipe.tokenizer.is_none() {
        return longest;
    }
    let written = plan.tokenizer_file.as_ref().map_or(longest, |merged| merged.to_text().len() as u64);
    PARSED_TOKENIZER * (lengths.iter().sum::<u64>() + written)
}

/// What is wrong with the files of the output's tokenizer, and models whose tokens mean something else.
///
/// # Errors
/// A file cannot be read, or the chat template is unknown.
pub(super) fn warnings(
    storage: &dyn ReadStorage,
    recipe: &DenseRecipe,
    models: &DenseModels,
    plan: &DensePlan,
) -> Result<Vec<String>> {
    let overrides = overrides(storage, recipe, models, plan)?;
    let lead = &models.0[plan.tokenizer];
    let copied = copied(storage, &lead.dir, &overrides, OptionalFiles { tokenizer: true, card: false })?;
    let mut warnings: Vec<String> = copied
        .iter()
        .filter_map(|file| {
            let problem = small_files::problem(&file.name, &file.bytes)?;
            Some(format!("{} {problem}; readers will refuse it", lead.dir.join(&file.name).display()))
        })
        .collect();
    if let Some(merged) = &plan.tokenizer_file
        && let Some(problem) = moerge_infer::tokenizer::problem(merged.to_text().as_bytes())
    {
        warnings.push(format!("the merged tokenizer.json cannot be used: {problem}; readers will refuse it"));
    }
    let has_tokenizer = warnings.is_empty() && copied.iter().any(|file| file.name == TOKENIZER);
    drop(copied);
    match Vocabulary::of(storage, &lead.dir, &overrides) {
        Some(own) => {
            let rows = plan.output.config.get("vocab_size").and_then(Value::as_u64).unwrap_or(u64::MAX);
            let beyond = own.last_with_bos(None).and_then(|(id, token)| token_without_row(id, token, rows));
            warnings.extend(beyond.map(|what| format!("{}: {what}; a prompt with it cannot be run", lead.reference)));
            if recipe.tokenizer.is_none() {
                warnings.extend(other_tokens(storage, models, lead, &own));
            }
        }
        None if has_tokenizer => {
            let path = lead.dir.join(TOKENIZER);
            warnings.push(format!("{} has no vocabulary that can be read; readers will refuse it", path.display()));
        }
        None => {}
    }
    Ok(warnings)
}

/// Models whose tokens mean something else than those of `lead`, which gives the tokenizer.
fn other_tokens(storage: &dyn ReadStorage, models: &DenseModels, lead: &NamedModel, own: &Vocabulary) -> Vec<String> {
    let same = |model: &NamedModel| model.dir == lead.dir && model.overrides.same_vocabulary(&lead.overrides);
    let warning = |model: &NamedModel| {
        let what = Vocabulary::of(storage, &model.dir, &model.overrides)?.differs_from(own)?;
        Some(format!("{}: {what}; `tokenizer_source: union` merges the vocabularies", model.reference))
    };
    models.0.iter().filter(|model| !same(model)).filter_map(warning).collect()
}

/// The chat template of a model.
fn template_of(storage: &dyn ReadStorage, model: &NamedModel) -> Option<String> {
    if let Some(template) = &model.overrides.chat_template {
        return Some(template.clone());
    }
    let read = |name: &str| read_text(storage, &model.dir.join(name)).ok();
    if let Some(text) = read(CHAT_TEMPLATE) {
        return Some(text);
    }
    let config: Value = serde_json::from_str(&read(TOKENIZER_CONFIG)?).ok()?;
    config.get("chat_template")?.as_str().map(str::to_owned)
}
