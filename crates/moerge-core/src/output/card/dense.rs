//! The README.md of a dense merge.

use std::fmt::Write as _;

use super::{
    front_matter::{FrontMatter, link},
    of_quantised,
    text::{billions, cell, fence},
    usage,
};
use crate::model::gguf::QuantisedSource;

/// The facts on the card of a dense merge.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DenseCardFacts {
    /// The model's name: the name of the output folder.
    pub name: String,
    /// The method's name in recipes.
    pub method: String,
    /// The method in words, with its paper.
    pub method_title: String,
    /// The base, as the recipe calls it, where there is one.
    pub base: Option<String>,
    /// The models, in the recipe's order, each with its layers and its parameters in words.
    pub models: Vec<DenseCardModel>,
    /// Parameters for all models, in words.
    pub parameters_of_all: Vec<String>,
    /// Every model and adapter that is read: those of earlier documents, too, whose names stand among the references.
    pub sources: Vec<String>,
    /// References that are not on the Hub: folders on this machine, and documents of the recipe.
    pub folders: Vec<String>,
    /// The licence of each source, if known.
    pub licences: Vec<Option<String>>,
    /// The class that loads it.
    pub architecture: String,
    /// All parameters.
    pub parameters: u64,
    /// Element type, as PyTorch spells it.
    pub dtype: String,
    /// The recipe, as the user wrote it.
    pub recipe: String,
    /// The moerge that made it.
    pub moerge_version: String,
    /// Whether transformers needs `trust_remote_code` for the class.
    pub remote_code: bool,
    /// The sources that are stored in blocks.
    pub quantised: Vec<QuantisedSource>,
}

/// A model on the card of a dense merge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DenseCardModel {
    /// The model, as the recipe calls it.
    pub reference: String,
    /// Its layers, such as `0-15`, where not all are taken.
    pub layers: Option<String>,
    /// Its parameters, such as `weight 0.5`.
    pub parameters: Vec<String>,
}

/// The text of the README.md.
pub fn dense_card(facts: &DenseCardFacts) -> String {
    let models = facts.models.iter().map(|model| model.reference.as_str());
    let mut card = FrontMatter {
        references: facts
            .base
            .as_deref()
            .into_iter()
            .chain(models)
            .chain(facts.sources.iter().map(String::as_str))
            .collect(),
        folders: &facts.folders,
        licences: &facts.licences,
        tags: &["merge", "moerge"],
    }
    .text();
    let base = match &facts.base {
        Some(base) => format!(" The base is {}.", link(&facts.folders, base)),
        None => String::new(),
    };
    let _ = write!(
        card,
        "\n# {}\n\nA merge of pretrained models by `{}`, {}.{base} Made with moerge {}.\n\n",
        cell(&facts.name),
        facts.method,
        facts.method_title,
        facts.moerge_version,
    );
    let _ = write!(
        card,
        "| | |\n|---|---|\n| architecture | `{}` |\n| parameters | {} |\n| dtype | {} |\n",
        facts.architecture,
        billions(facts.parameters),
        facts.dtype,
    );
    if !facts.parameters_of_all.is_empty() {
        let _ = writeln!(card, "| for all models | {} |", cell(&facts.parameters_of_all.join(", ")));
    }
    card.push_str("\n## Models\n\n| model | layers | parameters |\n|---|---|---|\n");
    for model in &facts.models {
        let layers = model.layers.as_deref().unwrap_or("all");
        let parameters =
            if model.parameters.is_empty() { "–".to_owned() } else { cell(&model.parameters.join(", ")) };
        let _ = writeln!(card, "| {} | {layers} | {parameters} |", link(&facts.folders, &model.reference));
    }
    card.push_str(&of_quantised(&facts.quantised));
    card.push_str(&usage(facts.remote_code));
    let _ = write!(card, "\n## Recipe\n\n{}", fence("yaml", &facts.recipe));
    card.push_str("\n`moerge.json` beside the weights says which sources each tensor came from, with a fingerprint.\n");
    card
}
