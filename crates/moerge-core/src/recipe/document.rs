//! A recipe of either kind, with the earlier documents of its file that name models for it.

use std::{ops::Range, path::Path, sync::Arc};

use super::{
    DenseRecipe, Located, ModelRef, Recipe, dense,
    fields::Fields,
    load::{MAX_RECIPE, load_prompts, read_text},
    read,
    source::{self, Source},
    yaml::{self, Node},
};
use crate::{
    error::{Error, Result, Snippet},
    suggest::shorten,
};

/// The content of a recipe file.
#[derive(Debug, Clone)]
pub struct Document {
    /// Dense merges that later documents name as models, in order. They are not written.
    pub earlier: Vec<EarlierDocument>,
    /// What is written.
    pub output: Output,
}

/// A dense merge with a name.
#[derive(Debug, Clone)]
pub struct EarlierDocument {
    /// What later documents call it.
    pub name: String,
    /// The merge.
    pub recipe: DenseRecipe,
}

/// The last document of a file.
#[derive(Debug, Clone)]
pub enum Output {
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
        Self::read(&name, &read_text(path, MAX_RECIPE)?.into(), Some(path))
    }

    /// Parses `text`; `name` is its file name for messages. Prompt files are not read.
    ///
    /// # Errors
    /// All faults that are found.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        Self::read(name, &Arc::from(text), None)
    }

    /// All models of the output and of the earlier documents, except earlier documents themselves, with repetitions.
    pub fn models(&self) -> Vec<&Located<ModelRef>> {
        let output = match &self.output {
            Output::Moe(recipe) => recipe.models().collect::<Vec<_>>(),
            Output::Dense(recipe) => recipe.models().collect(),
        };
        let earlier = self.earlier.iter().flat_map(|earlier| earlier.recipe.models());
        earlier.chain(output).filter(|reference| self.earlier(reference).is_none()).collect()
    }

    /// The number of the earlier document that `reference` names, if it names one.
    pub fn earlier(&self, reference: &ModelRef) -> Option<usize> {
        let plain = reference.adapter.is_none() && reference.revision.is_none();
        self.earlier.iter().position(|earlier| plain && earlier.name == reference.model)
    }

    /// The place `span` of the recipe, for an error.
    pub fn snippet(&self, span: &Range<usize>, label: &str) -> Snippet {
        let (name, text) = match &self.output {
            Output::Moe(recipe) => (&recipe.name, &recipe.text),
            Output::Dense(recipe) => (&recipe.name, &recipe.text),
        };
        source::snippet(name, text, span, label.to_owned())
    }

    fn read(name: &str, text: &Arc<str>, prompts_of: Option<&Path>) -> Result<Self> {
        let source = Source::new(name, text);
        let mut roots = yaml::documents(&source)?;
        let Some(last) = roots.pop() else {
            return Err(source
                .error("the recipe is empty", 0..0, "")
                .hint("a recipe has `experts` and a `base_model`, or a `merge_method` and `models`"));
        };
        let mut earlier: Vec<EarlierDocument> = Vec::new();
        for root in &roots {
            if let Some(document) = source.keep(read_earlier(&source, root, &earlier)).flatten() {
                earlier.push(document);
            }
        }
        if dense::is_dense(&last) {
            let recipe = dense::read(&source, &last)?;
            let warnings = source.warnings();
            return match (source.into_error(), recipe) {
                (Some(error), _) => Err(error),
                (None, Some(recipe)) => {
                    Ok(Self { earlier, output: Output::Dense(Box::new(DenseRecipe { warnings, ..recipe })) })
                }
                (None, None) => Err(Error::input(format!("{name} has no merge method"))),
            };
        }
        let mut draft = read::read_root(&source, &last)?;
        if let Some(path) = prompts_of {
            load_prompts(&source, &mut draft, path);
        }
        Ok(Self { earlier, output: Output::Moe(Box::new(Recipe::finish(source, draft)?)) })
    }
}

/// Reads a document before the last: a named dense merge. `None` if its method has a fault.
fn read_earlier(source: &Source, root: &Node, earlier: &[EarlierDocument]) -> Result<Option<EarlierDocument>> {
    if !dense::is_dense(root) {
        return Err(source
            .error("only the last document of a file can be a Mixture of Experts", root.span.clone(), "")
            .hint("documents before it are dense merges: with a `merge_method` and a `name`"));
    }
    let name = Fields::any(source, root, "the document")?.required("name", "add a `name` that later documents use")?;
    let written = name.text()?.text.trim().to_owned();
    if written.is_empty() || written.contains(['+', '@']) {
        return Err(name.wrong("a name without `+` and `@`"));
    }
    if earlier.iter().any(|other| other.name == written) {
        return Err(name.error(&format!("two documents are called {}", shorten(&written))));
    }
    Ok(dense::read(source, root)?.map(|recipe| EarlierDocument { name: written, recipe }))
}
