//! A recipe of either kind, with the other documents of its file that make models for it.
//!
//! The output is the document without a name, or else the last. The others may stand in any order, as with
//! mergekit-multi.

mod order;

use std::{ops::Range, path::Path, sync::Arc};

use super::{
    DenseRecipe, Located, ModelRef, Recipe, dense,
    fields::Fields,
    load::{MAX_RECIPE, load_prompts},
    read,
    source::{self, Source},
    text_file::read_text,
    yaml::{self, Kind, Node},
};
use crate::{
    error::{Error, Result, Snippet},
    suggest::shorten,
};

/// The content of a recipe file.
#[derive(Debug, Clone)]
pub struct Document {
    /// Dense merges that are models of the output or of each other, in the order in which they are made. They are not
    /// written.
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

/// The document that is written.
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
        Self::load_text(path, &read_text(path, MAX_RECIPE)?)
    }

    /// Reads `text` as if it were the content of the file `path`, and the prompt files that it names.
    ///
    /// # Errors
    /// All faults that are found.
    pub fn load_text(path: &Path, text: &str) -> Result<Self> {
        Self::read(&path.display().to_string(), &text.into(), Some(path))
    }

    /// Parses `text`; `name` is its file name for messages. Prompt files are not read.
    ///
    /// # Errors
    /// All faults that are found.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        Self::read(name, &Arc::from(text), None)
    }

    /// All models of the output and of the earlier documents, except plain earlier documents, with repetitions.
    pub fn models(&self) -> Vec<&Located<ModelRef>> {
        let output = match &self.output {
            Output::Moe(recipe) => recipe.models().collect::<Vec<_>>(),
            Output::Dense(recipe) => recipe.models().collect(),
        };
        let earlier = self.earlier.iter().flat_map(|earlier| earlier.recipe.models());
        earlier
            .chain(output)
            .filter(|reference| reference.adapter.is_some() || self.earlier(reference).is_none())
            .collect()
    }

    /// The number of the earlier document that `reference` names, with or without an adapter.
    pub fn earlier(&self, reference: &ModelRef) -> Option<usize> {
        self.earlier.iter().position(|earlier| earlier.name == reference.model)
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
        let unnamed: Vec<usize> = (0..roots.len()).filter(|index| name_of(&roots[*index]).is_none()).collect();
        let output = match unnamed.as_slice() {
            [one] => Some(*one),
            _ => roots.len().checked_sub(1),
        };
        let Some(last) = output.map(|output| roots.remove(output)) else {
            return Err(source
                .error("the recipe is empty", 0..0, "")
                .hint("a recipe has `experts` and a `base_model`, or a `merge_method` and `models`"));
        };
        if !matches!(last.kind, Kind::Map(_)) {
            let message = format!("the recipe is {}, expected keys with values", last.describe());
            return Err(source
                .error(message, last.span.clone(), "")
                .hint("a recipe for a dense merge has `merge_method` and `models` or `slices`")
                .hint("one for a Mixture of Experts has `base_model` and `experts`"));
        }
        let mut earlier: Vec<EarlierDocument> = Vec::new();
        for root in &roots {
            if let Some(document) = source.keep(read_earlier(&source, root, &earlier)).flatten() {
                earlier.push(document);
            }
        }
        if dense::is_dense(&last) {
            let recipe = dense::read(&source, &last)?;
            let models = recipe.iter().flat_map(DenseRecipe::models).collect();
            earlier = needed(&source, earlier, name_of(&last), models);
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
        earlier = needed(&source, earlier, name_of(&last), draft.recipe.models().collect());
        Ok(Self { earlier, output: Output::Moe(Box::new(Recipe::finish(source, draft)?)) })
    }
}

/// The documents that the output needs, in order; all of them where something in them is wrong.
fn needed(
    source: &Source,
    all: Vec<EarlierDocument>,
    name: Option<&str>,
    output: Vec<&Located<ModelRef>>,
) -> Vec<EarlierDocument> {
    if source.faults() > 0 { all } else { source.keep(order::needed(source, all, name, output)).unwrap_or_default() }
}

/// The `name` of a document.
fn name_of(root: &Node) -> Option<&str> {
    let Kind::Map(entries) = &root.kind else { return None };
    let named = entries.iter().find(|entry| entry.key.value == "name")?;
    match &named.value.kind {
        Kind::Scalar(scalar) => Some(scalar.text.trim()).filter(|name| !name.is_empty()),
        _ => None,
    }
}

/// A document that is not the output: a dense merge with a name of its own. `None` where its method has a fault.
fn read_earlier(source: &Source, root: &Node, earlier: &[EarlierDocument]) -> Result<Option<EarlierDocument>> {
    if !dense::is_dense(root) {
        return Err(source
            .error("only the output of a file can be a Mixture of Experts", root.span.clone(), "")
            .hint("the output is the document without a `name`, or the last; the others are dense merges"));
    }
    let name = Fields::any(source, root, "the document")?.required("name", "add a `name` that other documents use")?;
    let written = name.text()?.text.trim().to_owned();
    if written.is_empty() || written.contains(['+', '@']) {
        return Err(name.wrong("a name without `+` and `@`"));
    }
    if earlier.iter().any(|other| other.name == written) {
        return Err(name.error(&format!("two documents are called {}", shorten(&written))));
    }
    Ok(dense::read(source, root)?.map(|recipe| EarlierDocument { name: written, recipe }))
}
