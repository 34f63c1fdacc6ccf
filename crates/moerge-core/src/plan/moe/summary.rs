//! A summary of the plan, for display and JSON.

use serde::Serialize;

use super::{Models, MoePlan};
use crate::plan::UnusedWeights;
use crate::{recipe::Recipe, record::FileRecord};

/// The summary of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlanSummary {
    /// The output's class in transformers.
    pub architecture: String,
    /// Why this class was chosen.
    pub why: String,
    /// Routed experts per layer.
    pub experts: usize,
    /// Per layer, the expert in each slot, if not every expert is in every layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Vec<usize>>,
    /// Experts per token.
    pub experts_per_token: usize,
    /// Number of parameters.
    pub parameters: u64,
    /// Number of parameters that are active per token.
    pub active_parameters: u64,
    /// dtype of the output's tensors.
    pub dtype: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of tensors that are copied from a source.
    pub tensors_copied: usize,
    /// The shards.
    pub shards: Vec<FileRecord>,
    /// Bytes of all shards.
    pub weight_bytes: u64,
    /// Bytes that are read from the sources.
    pub source_bytes: u64,
    /// The origin of attention, norms, embeddings and head: `base`, or `average` of the experts.
    pub shared_weights: String,
    /// How the routers are made.
    pub gate_mode: String,
    /// Number of prompts.
    pub prompts: usize,
    /// The base.
    pub base: ModelSummary,
    /// The experts, in order.
    pub expert_models: Vec<ExpertSummary>,
    /// The shared expert.
    pub shared_expert: Option<ExpertSummary>,
    /// Unused weights.
    pub unused: Vec<UnusedSummary>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Weights of a source that are left out for the same reason.
#[derive(Debug, Clone, Serialize)]
pub struct UnusedSummary {
    /// The source.
    pub source: String,
    /// What they are, and why they are left out.
    pub what: String,
    /// Their number.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl From<&UnusedWeights> for UnusedSummary {
    fn from(unused: &UnusedWeights) -> Self {
        let UnusedWeights { source, what, names, bytes } = unused;
        Self { source: source.clone(), what: what.clone(), tensors: names.len(), bytes: *bytes }
    }
}

/// One model.
#[derive(Debug, Clone, Serialize)]
pub struct ModelSummary {
    /// The reference, as written in the recipe.
    pub reference: String,
    /// `model_type`.
    pub model_type: String,
    /// dtype of its weights.
    pub dtype: String,
}

/// One expert.
#[derive(Debug, Clone, Serialize)]
pub struct ExpertSummary {
    /// The model.
    #[serde(flatten)]
    pub model: ModelSummary,
    /// Its prompts.
    pub positive_prompts: Vec<String>,
    /// Its negative prompts.
    pub negative_prompts: Vec<String>,
    /// The layers that it is limited to, such as `0-11, 20`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<String>,
    /// Width of its FFN.
    pub intermediate_size: usize,
}

impl PlanSummary {
    /// Sums up `plan`.
    pub fn new(recipe: &Recipe, models: &Models, plan: &MoePlan) -> Self {
        let (parameters, active_parameters) = plan.parameters();
        let slots = &plan.routing.slots;
        let model = |index: usize| {
            let source = &models.sources[index];
            let dtype = source.weight(crate::model::families::Role::Embeddings).map(|w| w.dtype.name().to_owned());
            ModelSummary {
                reference: source.reference.clone(),
                model_type: source.config.model_type.clone(),
                dtype: dtype.unwrap_or_default(),
            }
        };
        let expert = |index: usize, e: &crate::recipe::Expert| ExpertSummary {
            model: model(index),
            positive_prompts: e.positive_prompts.clone(),
            negative_prompts: e.negative_prompts.clone(),
            layers: e.layers.as_ref().map(ToString::to_string),
            intermediate_size: models.sources[index].config.intermediate_size,
        };
        let shard = |s: &moerge_checkpoint::Shard| FileRecord { name: s.file_name.clone(), bytes: s.file_len };
        let shards: Vec<_> = plan.output.layout.shards.iter().map(shard).collect();
        Self {
            architecture: plan.family.class.to_owned(),
            why: plan.why.clone(),
            experts: plan.shape.experts,
            slots: if slots.are_plain() { Vec::new() } else { slots.all_layers().to_vec() },
            experts_per_token: plan.shape.top_k,
            parameters,
            active_parameters,
            dtype: plan.output.tensors.first().map(|t| t.encoding.name().to_owned()).unwrap_or_default(),
            tensors: plan.output.tensors.len(),
            tensors_copied: plan.output.tensors.iter().filter(|t| t.is_copy()).count(),
            weight_bytes: shards.iter().map(|s| s.bytes).sum(),
            shards,
            source_bytes: plan.output.bytes_read(),
            shared_weights: recipe.shared_weights.name().to_owned(),
            gate_mode: plan.routing.gate_mode.name().to_owned(),
            prompts: plan.routing.prompts(),
            base: model(models.base),
            expert_models: models.experts.iter().zip(&recipe.experts).map(|(i, e)| expert(*i, e)).collect(),
            shared_expert: models.shared_expert.zip(recipe.shared_experts.first()).map(|(i, e)| expert(i, e)),
            unused: plan.output.unused.iter().map(UnusedSummary::from).collect(),
            warnings: plan.output.warnings.clone(),
        }
    }
}
