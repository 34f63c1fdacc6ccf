//! A recipe of either kind.

use std::{path::Path, sync::Arc};

use super::{
    DenseRecipe, Located, ModelRef, Recipe, dense,
    load::{MAX_RECIPE, read_text},
    source::{self, Source},
    yaml,
};
use crate::error::{Result, Snippet};

/// What a file says is to be made.
#[derive(Debug, Clone)]
pub enum Document {
    /// A Mixture of Experts.
    Moe(Box<Recipe>),
    /// A dense merge.
    Dense(Box<DenseRecipe>),
}

impl Document {
    /// Reads the file `path`, and the prompt files that it names; see [`Recipe::load`].
    ///
    /// # Errors
    /// All faults that are found.
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text: Arc<str> = read_text(path, MAX_RECIPE)?.into();
        match Self::dense(&name, &text)? {
            Some(recipe) => Ok(Self::Dense(Box::new(recipe))),
            None => Ok(Self::Moe(Box::new(Recipe::load(path)?))),
        }
    }

    /// Reads `text`; `name` is what its file is called in messages. Prompt files are not read.
    ///
    /// # Errors
    /// All faults that are found.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        match Self::dense(name, &Arc::from(text))? {
            Some(recipe) => Ok(Self::Dense(Box::new(recipe))),
            None => Ok(Self::Moe(Box::new(Recipe::parse(name, text)?))),
        }
    }

    /// Every model that is named, the base first, with repetitions.
    pub fn models(&self) -> Vec<&Located<ModelRef>> {
        match self {
            Self::Moe(recipe) => recipe.models().collect(),
            Self::Dense(recipe) => recipe.models().collect(),
        }
    }

    /// The place `span` of the recipe, for an error.
    pub fn snippet(&self, span: &std::ops::Range<usize>, label: &str) -> Snippet {
        let (name, text) = match self {
            Self::Moe(recipe) => (&recipe.name, &recipe.text),
            Self::Dense(recipe) => (&recipe.name, &recipe.text),
        };
        source::snippet(name, text, span, label.to_owned())
    }

    /// The dense recipe in `text`, if it is one.
    fn dense(name: &str, text: &Arc<str>) -> Result<Option<DenseRecipe>> {
        let source = Source::new(name, text);
        let Some(root) = yaml::tree(&source)?.filter(dense::is_dense) else { return Ok(None) };
        let recipe = dense::read(&source, &root)?;
        let warnings = source.warnings();
        match (source.into_error(), recipe) {
            (Some(error), _) => Err(error),
            (None, recipe) => Ok(recipe.map(|recipe| DenseRecipe { warnings, ..recipe })),
        }
    }
}
