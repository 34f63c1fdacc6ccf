//! The models that earlier documents of a recipe make.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::ReadStorage;
use moerge_core::{
    error::Result,
    model::{locate::locate_adapter, named_model::NamedModel},
    recipe::ModelRef,
};

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
