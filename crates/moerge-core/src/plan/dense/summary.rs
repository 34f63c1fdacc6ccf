//! The plan of a dense merge in numbers, for a page or as JSON.

use serde::Serialize;

use super::{DenseModels, DensePlan};
use crate::{plan::UnusedSummary, recipe::DenseRecipe};

/// What a dense merge would produce.
#[derive(Debug, Clone, Serialize)]
pub struct DenseSummary {
    /// The method's name.
    pub merge_method: &'static str,
    /// The class that loads the output, where the config names one.
    pub architecture: String,
    /// The models, each once.
    pub models: Vec<DenseModelSummary>,
    /// Layers of the output, where it is made of slices.
    pub layers: Option<usize>,
    /// Parameters of the output.
    pub parameters: u64,
    /// Tensors of the output.
    pub tensors: usize,
    /// Bytes of each shard.
    pub shards: Vec<u64>,
    /// Bytes of all shards.
    pub weight_bytes: u64,
    /// Bytes read from the models.
    pub source_bytes: u64,
    /// Weights that are not used.
    pub unused: Vec<UnusedSummary>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A model of a dense merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DenseModelSummary {
    /// As the recipe writes it.
    pub reference: String,
    /// Whether it is the base.
    pub base: bool,
    /// Whether it is nothing else: the recipe does not list it among its models.
    #[serde(skip)]
    pub only_base: bool,
    /// Bytes of its weights.
    pub bytes: u64,
}

impl DenseSummary {
    /// Sums up a plan.
    pub fn new(recipe: &DenseRecipe, models: &DenseModels, plan: &DensePlan) -> Self {
        let base = recipe.base_model.as_ref().map(|base| base.value.to_string());
        let inputs = recipe.slices.iter().flat_map(|slice| &slice.inputs);
        let listed: Vec<String> = inputs.map(|input| input.model.value.to_string()).collect();
        let output = &plan.output;
        let class = output.config.get("architectures").and_then(|a| a.get(0)).and_then(|a| a.as_str());
        let model_type = output.config.get("model_type").and_then(|t| t.as_str());
        Self {
            merge_method: recipe.merge_method.name,
            architecture: class.or(model_type).unwrap_or("unknown").to_owned(),
            models: models
                .0
                .iter()
                .map(|model| DenseModelSummary {
                    reference: model.reference.clone(),
                    base: base.as_ref() == Some(&model.reference),
                    only_base: !listed.contains(&model.reference),
                    bytes: model
                        .files()
                        .iter()
                        .flat_map(|files| files.checkpoints())
                        .flat_map(|c| c.tensors())
                        .map(|t| t.len)
                        .sum(),
                })
                .collect(),
            layers: plan.layers,
            parameters: plan.parameters(),
            tensors: output.tensors.len(),
            shards: output.layout.shards.iter().map(|shard| shard.file_len).collect(),
            weight_bytes: output.layout.total_file_bytes(),
            source_bytes: output.bytes_read(),
            unused: output.unused.iter().map(UnusedSummary::from).collect(),
            warnings: output.warnings.clone(),
        }
    }
}
