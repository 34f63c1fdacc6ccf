//! The README.md of an MoE: front matter for the Hub, and information for readers.
//!
//! A pure function from facts to text. Names, prompts and recipes come from outside: values are quoted so that no text
//! can end the YAML, a table row or a code block early.

use std::fmt::Write as _;

pub use crate::model::files::MODEL_CARD;
use crate::model::gguf::QuantisedSource;

mod dense;
mod front_matter;
mod source_card;
mod text;

pub use dense::{DenseCardFacts, DenseCardModel, dense_card};
use front_matter::{FrontMatter, link};
pub use front_matter::{common_licence, hub_ids};
pub use source_card::{SourceCard, source_licence};
use text::{billions, cell, fence};
pub use text::{markdown_table, quoted};

/// The facts on a model card.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CardFacts {
    /// The model's name: the name of the output folder.
    pub name: String,
    /// The base, as the recipe calls it.
    pub base: String,
    /// The routed experts, in order.
    pub experts: Vec<CardExpert>,
    /// The shared experts, in order.
    pub shared_experts: Vec<CardExpert>,
    /// Every model and adapter that is read: those of earlier documents, too, whose names stand among the references.
    pub sources: Vec<String>,
    /// References that are not on the Hub: folders on this machine, and documents of the recipe.
    pub folders: Vec<String>,
    /// The licence of each source, including the base, if known (see [`source_licence`]).
    pub licences: Vec<Option<String>>,
    /// The class that loads it, such as `MixtralForCausalLM`.
    pub architecture: String,
    /// All parameters.
    pub parameters: u64,
    /// Parameters that a token meets.
    pub active_parameters: u64,
    /// Routed experts of a layer.
    pub experts_per_layer: usize,
    /// Experts per token.
    pub experts_per_token: usize,
    /// Where attention, norms and embeddings come from: `base`, `average`, or the method that merges the experts'.
    pub shared_weights: String,
    /// How the routers were made, as the recipe spells it.
    pub gate_mode: String,
    /// Element type, as transformers spells it.
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

/// An expert on a model card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CardExpert {
    /// The model, as the recipe calls it; `model+adapter` for a LoRA.
    pub reference: String,
    /// The layers that it is limited to, such as `0-11, 20`.
    pub layers: Option<String>,
    /// Prompts that lead to it.
    pub positive_prompts: Vec<String>,
    /// Prompts that lead away from it.
    pub negative_prompts: Vec<String>,
}

/// The text of the README.md.
pub fn model_card(facts: &CardFacts) -> String {
    let experts = facts.experts.iter().chain(&facts.shared_experts).map(|e| e.reference.as_str());
    let mut card = FrontMatter {
        references: std::iter::once(facts.base.as_str())
            .chain(experts)
            .chain(facts.sources.iter().map(String::as_str))
            .collect(),
        folders: &facts.folders,
        licences: &facts.licences,
        tags: &["moe", "frankenmoe", "merge", "moerge"],
    }
    .text();
    let _ = write!(
        card,
        "\n# {}\n\nA Mixture of Experts made with moerge {} from models that were \
         trained apart: attention, norms and embeddings {}, every layer's feed-forward network is a choice \
         among {} experts.\n\n",
        cell(&facts.name),
        facts.moerge_version,
        match facts.shared_weights.as_str() {
            "average" => "are the mean of the experts'".to_owned(),
            "base" | "" => format!("come from {}", link(&facts.folders, &facts.base)),
            method => format!("are the experts', merged by `{method}`"),
        },
        facts.experts_per_layer,
    );
    let _ = write!(
        card,
        "| | |\n|---|---|\n| architecture | `{}` |\n| parameters | {} |\n| active per token | {} ({} of {} experts) |\n\
         | dtype | {} |\n| routers | `{}` |\n\n",
        facts.architecture,
        billions(facts.parameters),
        billions(facts.active_parameters),
        facts.experts_per_token,
        facts.experts_per_layer,
        facts.dtype,
        facts.gate_mode,
    );
    card.push_str("## Experts\n\n| | model | prompts |\n|---|---|---|\n");
    let shared = facts.shared_experts.iter().map(|e| ("shared".to_owned(), e));
    for (number, expert) in facts.experts.iter().enumerate().map(|(i, e)| (i.to_string(), e)).chain(shared) {
        let layers = expert.layers.as_ref().map(|layers| format!(" (layers {layers})")).unwrap_or_default();
        let _ =
            writeln!(card, "| {number} | {}{layers} | {} |", link(&facts.folders, &expert.reference), prompts(expert));
    }
    card.push_str(&of_quantised(&facts.quantised));
    card.push_str(&usage(facts.remote_code));
    let _ = write!(card, "\n## Recipe\n\n{}", fence("yaml", &facts.recipe));
    card.push_str("\n`moerge.json` beside the weights says which source each tensor came from, with a fingerprint.\n");
    card
}

/// What a reader should know of sources that are stored in blocks.
fn of_quantised(quantised: &[QuantisedSource]) -> String {
    let names: Vec<String> = quantised.iter().map(|source| cell(&source.reference)).collect();
    match names.split_last() {
        None => String::new(),
        Some((one, [])) => format!("\n{one} is quantised: its weights were used as they decode.\n"),
        Some((last, others)) => {
            format!("\n{} and {last} are quantised: their weights were used as they decode.\n", others.join(", "))
        }
    }
}

fn prompts(expert: &CardExpert) -> String {
    const SHOWN: usize = 8;
    let list = |prompts: &[String]| {
        let mut shown: Vec<String> = prompts.iter().take(SHOWN).map(|p| format!("“{}”", cell(p))).collect();
        if prompts.len() > SHOWN {
            shown.push(format!("and {} more", prompts.len() - SHOWN));
        }
        shown.join(", ")
    };
    match (expert.positive_prompts.is_empty(), expert.negative_prompts.is_empty()) {
        (true, true) => String::from("–"),
        (false, true) => list(&expert.positive_prompts),
        (true, false) => format!("not {}", list(&expert.negative_prompts)),
        (false, false) => format!("{}; not {}", list(&expert.positive_prompts), list(&expert.negative_prompts)),
    }
}

fn usage(remote_code: bool) -> String {
    let trust = if remote_code { ", trust_remote_code=True" } else { "" };
    let python = format!(
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\npath = \"path/to/this/folder\"\n\
         tokenizer = AutoTokenizer.from_pretrained(path)\n\
         model = AutoModelForCausalLM.from_pretrained(path, dtype=\"auto\"{trust})\n\
         inputs = tokenizer(\"Once upon a time\", return_tensors=\"pt\")\n\
         print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))\n"
    );
    let shell = "vllm serve path/to/this/folder\npython convert_hf_to_gguf.py path/to/this/folder   # llama.cpp\n";
    format!("\n## Use\n\n{}\n{}", fence("python", &python), fence("sh", shell))
}

#[cfg(test)]
mod tests;
