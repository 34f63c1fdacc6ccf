//! How the routers are made, as facts: what the router module is asked for.

use super::Slots;
use crate::{
    model::families::MoeFamily,
    recipe::{Expert, FitSettings, GateMode, Recipe},
};

/// What routers are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// How.
    pub gate_mode: GateMode,
    /// Each expert's prompts.
    pub experts: Vec<Prompts>,
    /// Which expert is where.
    pub slots: Slots,
    /// The shared expert's, where it has a gate of its own.
    pub shared_expert: Option<Prompts>,
    /// Seed of the random modes.
    pub seed: u64,
    /// How routers are fitted, for the modes that are.
    pub fit: FitSettings,
    /// Whether fitted routers are shifted until no expert is starved.
    pub balance: bool,
    /// Each expert's text that they are tried on.
    pub validation: Vec<Vec<String>>,
}

/// What shows what an expert is for, and what it is not for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prompts {
    /// What it is for.
    pub positive: Vec<String>,
    /// What it is not for.
    pub negative: Vec<String>,
}

impl Routing {
    /// What `recipe` asks for.
    pub fn new(recipe: &Recipe, family: &MoeFamily, slots: Slots, seed: u64) -> Self {
        let prompts =
            |e: &Expert| Prompts { positive: e.positive_prompts.clone(), negative: e.negative_prompts.clone() };
        let gated = family.shared_expert_gate() == Some(true);
        Self {
            gate_mode: recipe.gate_mode,
            experts: recipe.experts.iter().map(prompts).collect(),
            slots,
            shared_expert: recipe.shared_experts.first().filter(|_| gated).map(prompts),
            seed,
            fit: recipe.fit,
            balance: false,
            validation: recipe.experts.iter().map(|e| e.validation.clone()).collect(),
        }
    }

    /// Whether there is text to try the routers on.
    pub fn validates(&self) -> bool {
        self.validation.iter().any(|texts| !texts.is_empty())
    }

    /// All prompts in number.
    pub fn prompts(&self) -> usize {
        self.texts().count()
    }

    /// All prompts.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let all = self.experts.iter().chain(&self.shared_expert);
        all.flat_map(|p| p.positive.iter().chain(&p.negative)).map(String::as_str)
    }
}
