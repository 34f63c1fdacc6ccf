//! The documents before the last of a recipe's file: dense merges that become models for later ones, without being written.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::{FileKind, ReadStorage};
use moerge_core::{error::Result, recipe::EarlierDocument};

use super::{made::EarlierModels, plan::plan_dense, tokenizer};
use crate::merge::MergeOptions;

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
