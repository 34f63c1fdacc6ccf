//! Opens the models of a recipe and plans: headers and configs only.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::ReadStorage;

use super::{EarlierModels, MergeOptions, Prepared};
use crate::routers;
use moerge_core::{
    error::{Error, Result},
    model::{
        files::{TOKENIZER, read_bytes},
        gguf::{QuantisedSource, quantised_sources},
        locate::{ModelNotFound, locate},
        named_model::NamedModel,
        source::{Source, Vocabulary, token_without_row},
        source_files::SourceFiles,
    },
    plan::{Models, MoePlan, PlanOptions},
    recipe::{
        Located, ModelRef, Recipe,
        check::{self, CheckOptions},
    },
    suggest::shorten,
};
use moerge_infer::SpecialTokens;

/// Opens the models of `recipe` and makes the plan. Reads headers and configs only.
///
/// # Errors
/// A model cannot be opened, or the models do not fit each other.
pub fn prepare(
    storage: &Arc<dyn ReadStorage>,
    recipe: Recipe,
    recipe_dir: &Path,
    options: &MergeOptions,
) -> Result<Prepared> {
    prepare_with(storage, recipe, &EarlierModels::default(), recipe_dir, options)
}

/// The same with `made`, the models that earlier documents make.
///
/// # Errors
/// As those of [`prepare`].
pub fn prepare_with(
    storage: &Arc<dyn ReadStorage>,
    recipe: Recipe,
    made: &EarlierModels,
    recipe_dir: &Path,
    options: &MergeOptions,
) -> Result<Prepared> {
    let mut warnings = check::check(&recipe, &CheckOptions { allow_same_experts: options.allow_same_experts })?;
    let models = open_models(storage, &recipe, made, recipe_dir, options)?;
    check_prompt_lengths(&recipe, models.base().config.max_positions)?;
    let plan_options = PlanOptions {
        shard_bytes: options.shard_bytes,
        seed: options.random_seed.or(recipe.random_seed).unwrap_or(0),
        lora_dtype: options.lora_dtype,
        balance: options.balance,
    };
    let mut plan = MoePlan::new(&recipe, &models, &plan_options)?;
    warnings.splice(0..0, made.warnings.iter().cloned());
    warnings.append(&mut plan.output.warnings);
    let sources = models.sources.iter().flat_map(|source| source.files());
    warnings.extend(quantised_sources(storage.as_ref(), sources).iter().map(QuantisedSource::warning));
    if options.compare_vocabularies {
        warnings.extend(vocabulary_warnings(storage.as_ref(), &models));
    }
    plan.output.warnings = warnings;
    Ok(Prepared { recipe, models, plan, earlier_tokenizers: made.tokenizer_memory })
}

/// Refuses prompts that no model takes in one piece, before they are tokenized: that alone could take minutes.
fn check_prompt_lengths(recipe: &Recipe, context: usize) -> Result<()> {
    let mode = recipe.gate_mode.name();
    let Some(max) = routers::max_prompt_bytes(recipe.gate_mode, context) else { return Ok(()) };
    let experts = recipe.experts.iter().enumerate().map(|(index, expert)| (format!("expert {index}"), expert));
    let shared = recipe.shared_experts.iter().map(|expert| ("the shared expert".to_owned(), expert));
    let mut errors = Vec::new();
    for (name, expert) in experts.chain(shared) {
        let lists = [("positive", &expert.positive_prompts), ("negative", &expert.negative_prompts)];
        for (kind, prompts) in lists {
            let Some(index) = prompts.iter().position(|prompt| prompt.len() > max) else { continue };
            errors.push(
                Error::input(format!("{kind} prompt {} of {name} is too long for `gate_mode: {mode}`", index + 1))
                    .at(recipe.snippet(&expert.source_model.span, ""))
                    .fact("prompt", format!("{} bytes, \"{}\"", prompts[index].len(), shorten(&prompts[index])))
                    .fact("at most", format!("{max} bytes; the base's context is {context} tokens"))
                    .hint("use words or the beginnings of real inputs as prompts")
                    .hint("`gate_mode: calibrated` takes long text: it cuts it into windows"),
            );
        }
    }
    Error::all(errors).map_or(Ok(()), Err)
}

fn open_models(
    storage: &Arc<dyn ReadStorage>,
    recipe: &Recipe,
    made: &EarlierModels,
    recipe_dir: &Path,
    options: &MergeOptions,
) -> Result<Models> {
    let mut sources: Vec<Source> = Vec::new();
    let mut open = |reference: &Located<ModelRef>| -> Result<usize> {
        let name = reference.value.to_string();
        if let Some(index) = sources.iter().position(|s| s.reference == name) {
            return Ok(index);
        }
        let place = |error: Error| {
            if error.parts().snippet.is_some() { error } else { error.at(recipe.snippet(&reference.span, "")) }
        };
        if let Some(made) = made.find(storage, &reference.value, recipe_dir, options).map_err(place)? {
            sources.push(made_source(&made).map_err(place)?);
            return Ok(sources.len() - 1);
        }
        let folders = locate(storage.as_ref(), &reference.value, recipe_dir, &options.cache)
            .map_err(|e: ModelNotFound| place(Error::from(e)))?;
        let source = Source::open(storage, &name, &folders.model, folders.adapter.as_deref()).map_err(place)?;
        sources.push(source);
        Ok(sources.len() - 1)
    };
    let base = open(&recipe.base_model)?;
    let experts = recipe.experts.iter().map(|e| open(&e.source_model)).collect::<Result<_>>()?;
    let shared_expert = recipe.shared_experts.first().map(|e| open(&e.source_model)).transpose()?;
    Ok(Models { sources, base, experts, shared_expert })
}

/// A model that an earlier document makes.
fn made_source(made: &NamedModel) -> Result<Source> {
    let files = made.files().iter().map(SourceFiles::to_owned).collect();
    let mut source = Source::made(&made.reference, &made.dir, &made.config, &made.tensors, files)?;
    source.overrides = made.overrides.clone();
    Ok(source)
}

/// Warnings about the base's tokenizer, which the merged model gets, and about experts with different ones.
fn vocabulary_warnings(storage: &dyn ReadStorage, models: &Models) -> Vec<String> {
    let of_base = models.base();
    let tokenizer = |s: &Source| match &s.overrides.vocabulary {
        Some(merged) => Some(merged.to_text().into_bytes()),
        None => read_bytes(storage, &s.dir.join(TOKENIZER)).ok(),
    };
    let base_bytes = tokenizer(of_base);
    let base = Vocabulary::of(storage, &of_base.dir, &of_base.overrides);
    let mut warnings: Vec<String> = base.iter().filter_map(|base| token_beyond_rows(storage, of_base, base)).collect();
    let same = |source: &Source| source.dir == of_base.dir && source.overrides.same_vocabulary(&of_base.overrides);
    for source in models.sources.iter().filter(|source| !same(source)) {
        let bytes = tokenizer(source);
        if bytes.is_none() || bytes == base_bytes {
            continue;
        }
        drop(bytes);
        let own = Vocabulary::of(storage, &source.dir, &source.overrides);
        let (Some(base), Some(own)) = (&base, own) else { continue };
        warnings.extend(own.differs_from(base).map(|what| format!("{}: {what}", source.reference)));
    }
    warnings
}

fn token_beyond_rows(storage: &dyn ReadStorage, base: &Source, vocabulary: &Vocabulary) -> Option<String> {
    let special = SpecialTokens::open(storage, &base.dir).unwrap_or_default();
    let (id, token) = vocabulary.last_with_bos(special.get("bos_token"))?;
    let message = token_without_row(id, token, base.config.vocab_size as u64)?;
    Some(format!("{}: {message}; a prompt with it cannot be run", base.reference))
}
