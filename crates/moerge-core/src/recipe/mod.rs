//! The recipe: what to make, as the user wrote it, with the place of everything in the text.
//!
//! A mergekit-moe YAML reads unchanged. What mergekit ignores silently or stumbles over late is an error here, at its
//! line: keys that look like slips, doubled keys, values of the wrong kind. All faults of a recipe are reported in one
//! run. A value that is wrong by itself is refused here, where its place is known; rules between values are
//! [`crate::recipe::check`]'s.
//!
//! The YAML is read with a tree of our own over granit-parser's events ([`yaml`]), because errors need the span of
//! every value.

pub mod check;
pub mod dense;
mod document;
mod dtype;
mod expert;
mod fields;
mod fit_settings;
mod foreign_keys;
mod gate_mode;
mod layers;
mod load;
mod located;
mod model_ref_field;
pub mod prompts_file;
mod read;
mod shared_weights;
mod source;
mod text_file;
mod yaml;
mod yaml_error;

use std::{ops::Range, sync::Arc};

pub use crate::model::model_ref::{Adapter, ModelRef};
pub use dense::DenseRecipe;
pub use document::{Document, EarlierDocument, Output};
pub use expert::Expert;
pub use fit_settings::{FitSettings, Label, PhatGoose, SelfText};
pub use gate_mode::GateMode;
pub use layers::Layers;
pub use load::MAX_RECIPE;
pub use located::Located;
use moerge_checkpoint::Dtype;
use read::Draft;
pub use shared_weights::{SharedMerge, SharedWeights};
use source::Source;
pub use text_file::read_text;

use crate::{
    error::{Result, Snippet},
    model::families::MoeFamily,
};

/// What the user wrote.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The file's name as the user gave it.
    pub name: String,
    /// The whole text.
    pub text: Arc<str>,
    /// The model that provides attention, norms, embeddings, head and tokenizer.
    pub base_model: Located<ModelRef>,
    /// The routed experts; expert 0 is the first.
    pub experts: Vec<Expert>,
    /// Experts that every token goes through.
    pub shared_experts: Vec<Expert>,
    /// How the routers are made. The default is `hidden`, as in mergekit, if there are prompts, else `self_calibrated`.
    pub gate_mode: GateMode,
    /// Whether the recipe has a `gate_mode`.
    pub gate_mode_given: bool,
    /// How routers are fitted, for the gate modes that are.
    pub fit: FitSettings,
    /// Where attention, norms, embeddings and head come from.
    pub shared_weights: SharedWeights,
    /// The output's type: F32, F16 or BF16; by default the base's.
    pub dtype: Option<Dtype>,
    /// Experts per token; by default 2.
    pub experts_per_token: Located<usize>,
    /// The family of the output. Ask [`Recipe::accepts`], since a name can stand for several.
    pub architecture: Option<Located<&'static MoeFamily>>,
    /// The seed of random gates and noise.
    pub random_seed: Option<u64>,
    /// What has no effect in it, with the lines.
    pub warnings: Vec<String>,
}

impl Recipe {
    /// Reads a recipe; `name` is what its file is called in messages. Nothing but `text` is looked at: prompt files are
    /// named in the result, not read ([`Recipe::load`] does).
    ///
    /// The error holds all faults that are found.
    ///
    /// # Errors
    /// It is not YAML, or not a recipe that moerge supports.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let text: Arc<str> = Arc::from(text);
        let source = Source::new(name, &text);
        let draft = read::read(&source)?;
        Self::finish(source, draft)
    }

    /// The recipe, or everything that is wrong with it.
    fn finish(source: Source, Draft { mut recipe, doubts }: Draft) -> Result<Self> {
        if source.faults() > 0 {
            check::faults_of_draft(&recipe, doubts).into_iter().for_each(|error| source.fault(|| error));
        }
        recipe.warnings = source.warnings();
        match source.into_error() {
            Some(error) => Err(error),
            None => Ok(recipe),
        }
    }

    /// Every model that is named, the base first, with repetitions.
    pub fn models(&self) -> impl Iterator<Item = &Located<ModelRef>> {
        let experts = self.experts.iter().chain(&self.shared_experts);
        std::iter::once(&self.base_model).chain(experts.map(|expert| &expert.source_model))
    }

    /// The place `span` of the recipe, for an error; of several lines, the first.
    pub fn snippet(&self, span: &Range<usize>, label: impl Into<String>) -> Snippet {
        source::snippet(&self.name, &self.text, span, label.into())
    }

    /// Whether the recipe's `architecture` allows this family: `qwen` stands for both of Qwen's, as in mergekit.
    pub fn accepts(&self, family: &MoeFamily) -> bool {
        let Some(named) = &self.architecture else { return true };
        let written = self.text.get(named.span.clone()).unwrap_or_default();
        family.recipe_name.starts_with(&written.trim_matches(['"', '\'']).trim().to_lowercase())
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
