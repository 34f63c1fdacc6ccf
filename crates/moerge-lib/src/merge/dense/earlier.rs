//! The documents before the last of a recipe's file: dense merges that become models for later ones, without being written.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::{FileKind, ReadStorage};
use moerge_core::{
    error::Result,
    model::{locate::locate_adapter, named_model::NamedModel},
    recipe::{EarlierDocument, ModelRef},
};

use super::{plan::plan_dense, tokenizer};
use crate::merge::MergeOptions;

/// The models that the documents before the last make.
#[derive(Debug, Clone, Default)]
pub struct EarlierModels {
    /// In the order of the documents.
    pub models: Vec<NamedModel>,
    /// What the user should know about them.
    pub warnings: Vec<String>,
    /// An upper bound in bytes on the memory that merging their vocabularies takes.
    pub(crate) tokenizer_memory: u64,
}

impl EarlierModels {
    /// The model that `reference` names, if a document makes it; with its adapter, if it has one.
    ///
    /// # Errors
    /// The adapter cannot be found or read, or does not fit the model.
    pub(crate) fn find(
        &self,
        storage: &Arc<dyn ReadStorage>,
        reference: &ModelRef,
        recipe_dir: &Path,
        options: &MergeOptions,
    ) -> Result<Option<NamedModel>> {
        let made = self.models.iter().find(|made| made.reference == reference.model);
        let Some(made) = made.filter(|_| reference.revision.is_none()) else { return Ok(None) };
        let Some(adapter) = &reference.adapter else { return Ok(Some(made.clone())) };
        let dir = locate_adapter(storage.as_ref(), adapter, recipe_dir, &options.cache)?;
        made.with_adapter(storage, &reference.to_string(), &dir, options.lora_dtype).map(Some)
    }
}

/// Plans the documents before the last. Reads headers and small files only.
///
/// # Errors
/// As those of [`super::prepare_dense`].
pub fn earlier_models(
    storage: &Arc<dyn ReadStorage>,
    earlier: &[EarlierDocument],
    recipe_dir: &Path,
    options: &MergeOptions,
) -> Result<EarlierModels> {
    let mut made = EarlierModels::default();
    for EarlierDocument { name, recipe } in earlier {
        if storage.facts(&recipe_dir.join(name)).is_ok_and(|facts| facts.kind == FileKind::Dir) {
            made.warnings.push(format!(
                "`{name}` is a document of the recipe and also a folder; the document is used (`./{name}` is the folder)"
            ));
        }
        let key = format!("{name}/");
        let (models, plan) = plan_dense(storage, recipe, &made, recipe_dir, options, &key)?;
        let overrides = tokenizer::overrides(storage.as_ref(), recipe, &models, &plan)?;
        made.tokenizer_memory = made.tokenizer_memory.max(tokenizer::memory(storage.as_ref(), recipe, &models, &plan));
        let warnings = recipe.warnings.iter().cloned();
        let of_plan = plan.output.warnings[recipe.warnings.len().min(plan.output.warnings.len())..].iter();
        made.warnings.extend(warnings.chain(of_plan.map(|warning| format!("{name}: {warning}"))));
        made.models.push(plan.as_model(name, &models, overrides));
    }
    Ok(made)
}
