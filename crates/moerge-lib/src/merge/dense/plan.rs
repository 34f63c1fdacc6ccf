//! Opens the models of one document and plans its merge.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::ReadStorage;
use moerge_core::{
    error::{Error, Result},
    model::{
        locate::{ModelNotFound, locate},
        named_model::NamedModel,
        tokenizer_file::TokenizerFile,
    },
    plan::{DenseModels, DensePlan, DensePlanOptions},
    recipe::DenseRecipe,
};

use super::made::EarlierModels;
use crate::merge::MergeOptions;

/// Opens the models and plans. `made` are those that earlier documents make. The keys of random masks begin with
/// `mask_key`.
pub(super) fn plan_dense(
    storage: &Arc<dyn ReadStorage>,
    recipe: &DenseRecipe,
    made: &EarlierModels,
    recipe_dir: &Path,
    options: &MergeOptions,
    mask_key: &str,
) -> Result<(DenseModels, DensePlan)> {
    let mut models: Vec<NamedModel> = Vec::new();
    for reference in recipe.models() {
        let name = reference.value.to_string();
        if models.iter().any(|model| model.reference == name) {
            continue;
        }
        let place = |error: Error| {
            if error.parts().snippet.is_some() { error } else { error.at(recipe.snippet(&reference.span, "")) }
        };
        if let Some(made) = made.find(storage, &reference.value, recipe_dir, options).map_err(place)? {
            models.push(made);
            continue;
        }
        let folders = locate(storage.as_ref(), &reference.value, recipe_dir, &options.cache)
            .map_err(|e: ModelNotFound| place(Error::from(e)))?;
        let (model, adapter) = (&folders.model, folders.adapter.as_deref());
        models.push(NamedModel::open(storage, &name, model, adapter, options.lora_dtype).map_err(place)?);
    }
    let models = DenseModels(models);
    let plan_options = DensePlanOptions {
        shard_bytes: options.shard_bytes,
        seed: options.random_seed.or(recipe.random_seed).unwrap_or(0),
        lora_dtype: options.lora_dtype,
        truncate_embeddings: options.truncate_embeddings,
        mask_key: mask_key.to_owned(),
    };
    let tokenizer = |model: &NamedModel| match &model.overrides.vocabulary {
        Some(merged) => Ok(TokenizerFile::clone(merged)),
        None => TokenizerFile::open(storage.as_ref(), &model.dir),
    };
    let tokenizers = match &recipe.tokenizer {
        Some(_) => models.0.iter().map(tokenizer).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    let plan = DensePlan::new(recipe, &models, &tokenizers, &plan_options)?;
    Ok((models, plan))
}
