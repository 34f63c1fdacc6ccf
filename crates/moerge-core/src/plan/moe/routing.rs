//! How the routers are made, as facts: what the router module is asked for.

use super::Slots;
use crate::{
    model::families::MoeFamily,
    ops::Identity,
    recipe::{Expert, FitSettings, GateMode, PhatGoose, Recipe, SelfText},
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
        // An empty prompt is the bos token, of which a gate can be made; there is nothing in it to fit to.
        let usable = |prompts: &[String]| -> Vec<String> {
            prompts.iter().filter(|p| !recipe.gate_mode.is_fitted() || !p.trim().is_empty()).cloned().collect()
        };
        let prompts =
            |e: &Expert| Prompts { positive: usable(&e.positive_prompts), negative: usable(&e.negative_prompts) };
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

    /// Adds all that decides over the routers to `id`.
    pub fn identify(&self, id: &mut Identity) {
        let Self { gate_mode, experts, slots, shared_expert, seed, fit, balance, validation } = self;
        let strings = |id: &mut Identity, texts: &[String]| {
            id.list(texts.iter(), |id, text| {
                id.text(text);
            });
        };
        let prompts = |id: &mut Identity, Prompts { positive, negative }: &Prompts| {
            strings(id, positive);
            strings(id, negative);
        };
        id.text(gate_mode.name()).number(*seed).number(u64::from(*balance));
        id.list(experts.iter(), prompts).optional(shared_expert.as_ref(), prompts);
        id.number(slots.experts() as u64).list(slots.all_layers().iter(), |id, layer| {
            id.list(layer.iter(), |id, expert| {
                id.number(*expert as u64);
            });
        });
        id.list(validation.iter(), |id, texts| strings(id, texts));
        let FitSettings { label, tokens, self_text, phatgoose } = fit;
        let SelfText { samples, tokens: sample_tokens, temperature, seed: text_seed } = self_text;
        let PhatGoose { steps, learning_rate, batch_tokens } = phatgoose;
        id.text(label.name()).number(*tokens as u64);
        id.number(*samples as u64).number(*sample_tokens as u64).float(*temperature);
        id.optional(*text_seed, |id, seed| {
            id.number(seed);
        });
        id.number(*steps as u64).float(*learning_rate).number(*batch_tokens as u64);
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
