//! The planned tensors against the planned config, where its family is known: models that do not fit each other, or a
//! config that is not its weights', are refused before anything is written.

use std::path::Path;

use crate::{
    error::{Error, Result},
    model::{config::ModelConfig, families::describe, files::CONFIG, token_tensors::can_be_tied},
    plan::OutputPlan,
};

/// Most tensors that one is made from. Merges of merges multiply.
const MAX_READS: usize = 1024;

/// Checks the plan.
///
/// # Errors
/// A tensor is missing or has another shape than the config requires, or is made from too many.
pub fn check(plan: &OutputPlan) -> Result<()> {
    if let Some(tensor) = plan.tensors.iter().find(|tensor| tensor.expr.reads().len() > MAX_READS) {
        let count = tensor.expr.reads().len();
        return Err(Error::input(format!("{} would be made from {count} tensors", tensor.name))
            .fact("most", MAX_READS.to_string())
            .hint("documents that name each other many times over multiply; write one of them into a folder first"));
    }
    let text = serde_json::to_string(&plan.config).unwrap_or_default();
    let Ok(config) = ModelConfig::parse(&text, Path::new(CONFIG)) else { return Ok(()) };
    let Ok(description) = describe(&config) else { return Ok(()) };
    let find = |name: &str| plan.tensors.iter().find(|tensor| tensor.name == name);
    // Layouts with other names, such as a multimodal model's or fused experts, are left to `verify`.
    let classic = find("model.embed_tokens.weight").is_some() && description.decoder.experts().is_none();
    if description.text_part || !classic {
        return Ok(());
    }
    for expected in &description.tensors {
        let shape = expected.stored_shape();
        let Some(found) = find(&expected.name) else {
            if can_be_tied(&expected.name) {
                continue;
            }
            return Err(Error::input(format!("no model has {}, which config.json requires", expected.name))
                .fact("expected", format!("{shape:?}"))
                .hint("the models are incomplete, or config.json belongs to another model"));
        };
        if found.shape != shape {
            return Err(Error::input(format!("{} would not fit the output's config.json", found.name))
                .fact("expected", format!("{shape:?}"))
                .fact("found", format!("{:?}", found.shape))
                .hint("layers of models of different sizes or vocabularies cannot be stacked"));
        }
    }
    Ok(())
}
