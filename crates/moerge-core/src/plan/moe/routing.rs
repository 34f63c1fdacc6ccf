//! The specification of the routers.

use super::Slots;
use crate::{
    model::families::MoeFamily,
    ops::Identity,
    recipe::{Expert, FitSettings, GateMode, PhatGoose, Recipe, SelfText},
};

/// How the routers are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// The mode.
    pub gate_mode: GateMode,
    /// Each expert's prompts.
    pub experts: Vec<Prompts>,
    /// The slots of the experts.
    pub slots: Slots,
    /// The prompts of a shared expert with a gate.
    pub shared_expert: Option<Prompts>,
    /// Seed of the random modes.
    pub seed: u64,
    /// Settings of the fit, for fitted modes.
    pub fit: FitSettings,
    /// Whether fitted routers are shifted until no expert is starved.
    pub balance: bool,
    /// The validation text of each expert.
    pub validation: Vec<Vec<String>>,
}

/// The prompts of an expert.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prompts {
    /// Text that it is for.
    pub positive: Vec<String>,
    /// Text that it is not for.
    pub negative: Vec<String>,
}

impl Routing {
    /// The routing of `recipe`.
    pub fn new(recipe: &Recipe, family: &MoeFamily, slots: Slots, seed: u64) -> Self {
        // An empty prompt is the bos token, which is enough for a gate but not for a fit.
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

    /// Adds everything that determines the routers to `id`.
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
        let FitSettings { label, tokens, splice, self_text, phatgoose } = fit;
        let SelfText { samples, tokens: sample_tokens, temperature, seed: text_seed } = self_text;
        let PhatGoose { steps, learning_rate, batch_tokens } = phatgoose;
        id.text(label.name()).number(*tokens as u64).number(u64::from(*splice));
        id.number(*samples as u64).number(*sample_tokens as u64).float(*temperature);
        id.optional(*text_seed, |id, seed| {
            id.number(seed);
        });
        id.number(*steps as u64).float(*learning_rate).number(*batch_tokens as u64);
    }

    /// Whether there is validation text.
    pub fn validates(&self) -> bool {
        self.validation.iter().any(|texts| !texts.is_empty())
    }

    /// The number of prompts.
    pub fn prompts(&self) -> usize {
        self.texts().count()
    }

    /// All prompts.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let all = self.experts.iter().chain(&self.shared_expert);
        all.flat_map(|p| p.positive.iter().chain(&p.negative)).map(String::as_str)
    }
}
