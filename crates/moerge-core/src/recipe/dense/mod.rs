//! Recipes for dense merges, mergekit-yaml's: a method, its models or slices of them, and its parameters.

mod keys;
mod parameter;
mod read;
mod tokenizer;

use std::{ops::Range, sync::Arc};

use moerge_checkpoint::Dtype;

pub use parameter::{Condition, Parameters, Setting};
pub(super) use read::{is_dense, read, read_method, read_parameters};

use super::{Located, ModelRef, source};
use crate::{error::Snippet, ops::MethodSpec};

/// What the user wrote.
#[derive(Debug, Clone)]
pub struct DenseRecipe {
    /// The file's name as the user gave it.
    pub name: String,
    /// The whole text.
    pub text: Arc<str>,
    /// How the models are merged.
    pub merge_method: Located<&'static MethodSpec>,
    /// The model that the others are compared with; it also gives the config and the tokenizer.
    pub base_model: Option<Located<ModelRef>>,
    /// The layers of the output, from the first on. Whole models are one slice without layer ranges.
    pub slices: Vec<Slice>,
    /// Parameters for all slices.
    pub parameters: Parameters,
    /// The output's type where `out_dtype` does not say another; each tensor's own where neither does.
    pub dtype: Option<Dtype>,
    /// The output's type.
    pub out_dtype: Option<Dtype>,
    /// The output's tokenizer; the base's where the recipe does not say.
    pub tokenizer: Option<Located<Tokenizer>>,
    /// The output's chat template: `auto`, a name, or Jinja.
    pub chat_template: Option<Located<String>>,
    /// The seed of random masks.
    pub random_seed: Option<u64>,
    /// What has no effect in it, with the lines.
    pub warnings: Vec<String>,
}

/// The output's tokenizer, and where the rows of its tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokenizer {
    /// Whose tokens the output has.
    pub source: TokenizerSource,
    /// Tokens whose rows the recipe decides over. One that no tokenizer has is added.
    pub tokens: Vec<TokenRule>,
    /// The number of rows is a multiple of this.
    pub pad_to_multiple_of: Option<usize>,
}

/// Where the row of one token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRule {
    /// The token.
    pub token: String,
    /// Where the row comes from, in models that lack the token; by the usual rule where the recipe does not say.
    pub source: Option<Located<TokenSource>>,
    /// Whether it replaces the rows of models that have the token, too.
    pub force: bool,
}

/// Where a row comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// It is zeros.
    Zeros,
    /// The same token of a model.
    Model(ModelRef),
    /// Another token of a model.
    Token(ModelRef, String),
    /// A row of a model.
    Id(ModelRef, usize),
}

/// Whose tokens the output has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenizerSource {
    /// The base's, or the first model's.
    Base,
    /// That of one model.
    Model(ModelRef),
    /// One with the tokens of all models.
    Union,
}

/// Some layers of the output.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The models that are merged, at least one.
    pub inputs: Vec<Input>,
    /// The base of this slice; that of the recipe where it has none.
    pub base_model: Option<Located<ModelRef>>,
    /// Parameters for this slice.
    pub parameters: Parameters,
}

/// A model, or some of its layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// The model.
    pub model: Located<ModelRef>,
    /// Its layers, the last one not included; `None` for all.
    pub layers: Option<Located<Range<usize>>>,
    /// Parameters for this model.
    pub parameters: Parameters,
}

impl DenseRecipe {
    /// The place `span` of the recipe, for an error; of several lines, the first.
    pub fn snippet(&self, span: &Range<usize>, label: impl Into<String>) -> Snippet {
        source::snippet(&self.name, &self.text, span, label.into())
    }

    /// Whether the recipe stacks layers rather than merging whole models.
    pub fn has_slices(&self) -> bool {
        self.slices.iter().flat_map(|slice| &slice.inputs).any(|input| input.layers.is_some())
    }

    /// Every model that is named, the base first, with repetitions.
    pub fn models(&self) -> impl Iterator<Item = &Located<ModelRef>> {
        let bases = self.base_model.iter().chain(self.slices.iter().filter_map(|slice| slice.base_model.as_ref()));
        bases.chain(self.slices.iter().flat_map(|slice| &slice.inputs).map(|input| &input.model))
    }
}
