//! Plans a dense merge: which tensors the output has, what each is merged from, and with which parameters.
//!
//! Nothing here knows a family: tensors meet by name, and a number between dots is a layer.

mod against_config;
mod config;
mod doubts;
mod inputs;
mod shapes;
mod summary;
mod tensors;
mod token_ids;
mod unused;
mod values;
mod vocabulary;

use std::sync::Arc;

use moerge_checkpoint::Dtype;

use super::{OutputPlan, OutputTensor};
use crate::{
    error::{Error, Result},
    model::{
        named_model::NamedModel, named_tensor::NamedTensor, tokenizer_file::TokenizerFile,
        tokenizer_overrides::TokenizerOverrides,
    },
    ops::Identity,
    recipe::{DenseRecipe, ModelRef, dense::TokenizerSource},
};
use inputs::ResolvedSlice;
use vocabulary::VocabularyMap;

pub use summary::{DenseModelSummary, DenseSummary};

/// The opened models of a dense recipe, each once.
#[derive(Debug)]
pub struct DenseModels(pub Vec<NamedModel>);

/// What the user sets besides the recipe that changes the output's bytes.
#[derive(Debug, Clone)]
pub struct DensePlanOptions {
    /// Largest shard in bytes; a tensor that is larger gets a shard of its own.
    pub shard_bytes: u64,
    /// Seed of random masks.
    pub seed: u64,
    /// What merged LoRA weights are rounded to before anything else is done with them; `None` keeps f32.
    pub lora_dtype: Option<Dtype>,
    /// Whether embeddings of different length are cut to the shortest.
    pub truncate_embeddings: bool,
    /// What the keys of random masks begin with, so that two documents of a recipe have masks of their own.
    pub mask_key: String,
}

/// A dense merge before one of its weights is read.
#[derive(Debug)]
pub struct DensePlan {
    /// What is written.
    pub output: OutputPlan,
    /// Index of the model whose config the output has.
    pub lead: usize,
    /// Index of the model whose tokenizer the output has.
    pub tokenizer: usize,
    /// The output's tokenizer, where it is no model's own.
    pub tokenizer_file: Option<Arc<TokenizerFile>>,
    /// Layers of the output, where it is made of slices.
    pub layers: Option<usize>,
}

impl DenseModels {
    /// The index of the model that the recipe calls `reference`.
    ///
    /// # Errors
    /// It was not opened, which no recipe can cause.
    pub fn find(&self, reference: &ModelRef) -> Result<usize> {
        let name = reference.to_string();
        let index = self.0.iter().position(|model| model.reference == name);
        index.ok_or_else(|| Error::input(format!("{name} was not opened")))
    }
}

impl DensePlan {
    /// Plans the output of `recipe`. `tokenizers` are those of all models, needed only where the recipe has a
    /// `tokenizer`.
    ///
    /// # Errors
    /// The models do not fit each other, or a parameter is missing or out of its range.
    pub fn new(
        recipe: &DenseRecipe,
        models: &DenseModels,
        tokenizers: &[TokenizerFile],
        options: &DensePlanOptions,
    ) -> Result<Self> {
        let slices = ResolvedSlice::all(recipe, models)?;
        let first = slices.first().and_then(|slice| slice.inputs.first());
        let first = first.ok_or_else(|| Error::input("the recipe names no models"))?.model;
        let lead = recipe.base_model.as_ref().map_or(Ok(first), |base| models.find(base))?;
        let mut warnings = recipe.warnings.clone();
        let map = match &recipe.tokenizer {
            Some(tokenizer) => {
                let map = VocabularyMap::new(recipe, tokenizer, models, tokenizers, lead, &mut warnings)?;
                let rows: Vec<usize> = models.0.iter().filter_map(vocabulary::embedding_rows).collect();
                (!map.is_identity(&rows)).then_some(map)
            }
            None => None,
        };
        let tokenizer = match recipe.tokenizer.as_ref().map(|tokenizer| &tokenizer.source) {
            Some(TokenizerSource::Model(model)) => models.find(model)?,
            None | Some(TokenizerSource::Base | TokenizerSource::Union) => lead,
        };
        let planned = tensors::plan(recipe, models, &slices, map.as_ref(), options)?;
        let layers = recipe.has_slices().then(|| slices.iter().map(ResolvedSlice::layers).sum());
        let mut config = config::merged(recipe, &models.0[lead], &planned, &slices, layers)?;
        if let (Some(map), Some(own)) = (&map, tokenizers.get(lead)) {
            warnings.extend(token_ids::renumber(&mut config, own, &map.tokenizer));
        }
        let doubts = planned.doubts;
        let mut output = OutputPlan::new(config, planned.tensors, options.shard_bytes, options.seed)?;
        against_config::check(&output)?;
        output.unused = unused::unused(models, &output.tensors);
        output.warnings = warnings;
        output.warnings.extend(doubts.warnings(recipe));
        output.warnings.extend(config::differences(models, lead));
        let own = |map: &VocabularyMap| tokenizers.get(tokenizer).is_some_and(|file| file.same_tokens(&map.tokenizer));
        let tokenizer_file = map.filter(|map| !own(map)).map(|map| Arc::new(map.tokenizer));
        Ok(Self { output, lead, tokenizer, tokenizer_file, layers })
    }

    /// The output as a model that later documents name `reference`. `models` are those that it is planned from, and
    /// `overrides` are what its tokenizer has otherwise than the model that it is copied from.
    pub fn as_model(&self, reference: &str, models: &DenseModels, overrides: TokenizerOverrides) -> NamedModel {
        let tensor = |t: &OutputTensor| {
            let dtype = t.encoding.dtype()?;
            Some((t.name.clone(), NamedTensor { dtype, expr: t.expr.clone() }))
        };
        let tensors = self.output.tensors.iter().filter_map(tensor).collect();
        let files = models.0.iter().flat_map(NamedModel::files).map(|files| files.to_owned()).collect();
        let dir = &models.0[self.tokenizer].dir;
        let mut made = NamedModel::new(reference, dir, self.output.config.clone(), tensors, files);
        made.overrides = overrides;
        made
    }

    /// Adds all that decides over the output's weights to `id`.
    ///
    /// # Errors
    /// A source cannot be read.
    pub fn identify(&self, id: &mut Identity) -> Result<()> {
        self.output.identify(id)
    }

    /// Parameters of the output.
    pub fn parameters(&self) -> u64 {
        self.output.tensors.iter().map(OutputTensor::elements).sum()
    }
}
