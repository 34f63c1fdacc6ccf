//! The most memory that a merge holds, known before it begins: a pure function of the plan, the prompts' tokens and the
//! number of threads. What it adds up are the buffers of [`moerge_core::execute`] and of the prompt pass; the constants are
//! measured, and `tests/limits.rs` holds the sum against the real process.

use moerge_checkpoint::Dtype;

use crate::routers::{fit_memory, pass_lengths, training_memory};
use moerge_core::{
    error::{Cause, Error, Result},
    model::source::Source,
    plan::{Models, MoePlan, OutputTensor},
    recipe::GateMode,
};
use moerge_infer::decoder::{Quantisation, generation_memory, pass_memory};

/// The program itself: code, stacks, and what the allocator keeps.
const PROGRAM: u64 = 16 << 20;
/// Names, places and headers of a tensor, of the output or of a source.
const TENSOR: u64 = 4 << 10;
/// A tokenizer in memory against its file.
const TOKENIZER: u64 = 14;
/// What a worker holds that copies, and one that merges an adapter.
const COPYING: u64 = 1 << 20;
const MERGING: u64 = 16 << 20;

/// Of what an expert that writes takes, the part that the allocator still keeps of the one before (measured with four
/// experts of 1.6 GB).
const KEPT: u64 = 16;

/// Memory for writing weights where the user names none.
pub const USUAL_MEMORY: u64 = 2 << 30;

/// What is known of a merge besides its plan.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// Tokens of each sequence that goes through a model: distinct prompts, or the text that routers are fitted to.
    pub lengths: Vec<usize>,
    /// Tokens of each text that one expert writes; none where they write nothing.
    pub written: Vec<usize>,
    /// Length of `tokenizer.json`.
    pub tokenizer_bytes: u64,
    /// Threads that write, if there is room for them.
    pub workers: usize,
    /// Threads that multiply.
    pub threads: usize,
    /// What the user allows, in bytes.
    pub budget: Option<u64>,
}

/// Bytes that a merge holds at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// While the prompts go through the base, or their text through the MoE whose routers are fitted; 0 without either.
    pub prompts: u64,
    /// While an expert writes text; 0 where none does.
    pub self_text: u64,
    /// While gates are trained; 0 where none are.
    pub training: u64,
    /// While the weights are written, by [`MemoryNeed::workers`].
    pub weights: u64,
    /// Threads that write, as many as the budget has room for.
    pub workers: usize,
    /// What of the budget is left beside what a run holds all the time.
    pub room: u64,
    /// How an expert that writes text is kept in memory.
    pub expert: Quantisation,
}

impl MemoryNeed {
    /// The need of `plan`. A budget that is too small for all workers has fewer of them, one at the least.
    pub fn of(plan: &MoePlan, models: &Models, circumstances: &Circumstances) -> Self {
        let tensors = plan.output.tensors.len() + models.sources.iter().map(|s| s.checkpoint.len()).sum::<usize>();
        let fixed = PROGRAM + TENSOR * tensors as u64 + TOKENIZER * circumstances.tokenizer_bytes;
        let merges = |t: &OutputTensor| t.expr.merges_adapter();
        let worker = if plan.output.tensors.iter().any(merges) { MERGING } else { COPYING };
        let budget = circumstances.budget.unwrap_or(USUAL_MEMORY);
        let room = usize::try_from(budget.saturating_sub(fixed) / worker).unwrap_or(usize::MAX);
        let workers = circumstances.workers.min(room).max(1);
        let pass = pass(plan, models, circumstances);
        // Which way it is must not depend on what else the machine does: the same recipe, the same text.
        let ways = [Quantisation::Q8_0, Quantisation::Q4K];
        let needs = ways.map(|way| (way, writing(plan, models, circumstances, way).map(|bytes| fixed + bytes)));
        let fits = needs.into_iter().find(|(_, need)| need.is_none_or(|need| need <= budget));
        let (expert, self_text) = fits.unwrap_or(needs[1]);
        let training = training(plan, models, circumstances.threads, budget.saturating_sub(fixed));
        Self {
            prompts: pass.map_or(0, |pass| fixed + pass),
            self_text: self_text.unwrap_or(0),
            training: training.map_or(0, |training| fixed + training),
            weights: fixed + workers as u64 * worker,
            workers,
            room: budget.saturating_sub(fixed),
            expert,
        }
    }

    /// Whether a run keeps within `budget` bytes.
    ///
    /// # Errors
    /// Where it does not, with what it needs.
    pub fn within(&self, budget: u64) -> Result<()> {
        if self.prompts > budget {
            let few = "give it fewer and shorter prompts; `gate_mode: cheap_embed` needs no pass";
            return Err(too_small("the pass over the prompts", self.prompts, budget).hint(few));
        }
        if self.self_text > budget {
            let yours = "`gate_mode: calibrated` fits the routers to text of yours, in less memory";
            return Err(too_small("an expert that writes text", self.self_text, budget).hint(yours));
        }
        if self.training > budget {
            let less = "make `batch_tokens` of `phatgoose` smaller; `gate_mode: calibrated` needs no gradients";
            return Err(too_small("training the gates", self.training, budget).hint(less));
        }
        if self.weights > budget {
            return Err(too_small("writing the weights", self.weights, budget));
        }
        Ok(())
    }

    /// The largest of them.
    pub fn peak(&self) -> u64 {
        self.prompts.max(self.self_text).max(self.training).max(self.weights)
    }
}

/// What the pass over the base holds, or over the MoE where routers are fitted; `None` without one.
fn pass(plan: &MoePlan, models: &Models, circumstances: &Circumstances) -> Option<u64> {
    let mode = plan.routing.gate_mode;
    let (lengths, threads) = (&circumstances.lengths, circumstances.threads);
    let bytes = |dtype: Dtype| dtype.size_bits().div_ceil(8) as usize;
    let widest = |source: &Source| source.weights().map(|w| bytes(w.dtype)).max().unwrap_or(4);
    // The A matrices of an adapter are held in f32.
    let adapter = |source: &Source| -> u64 {
        source.weights().filter_map(|w| w.lora.as_ref()).map(|lora| 4 * lora.a.elements()).sum()
    };
    if mode.is_fitted() {
        let weight = models.sources.iter().map(widest).max().unwrap_or(4);
        let adapters: u64 = models.sources.iter().map(adapter).sum();
        let fitting = fit_memory(&plan.description.decoder, lengths.iter().sum(), threads);
        return Some(
            adapters + fitting + pass_memory(&plan.description, &pass_lengths(plan, lengths), weight, threads),
        );
    }
    if !mode.needs_prompts() || mode == GateMode::CheapEmbed {
        return None;
    }
    let base = models.base();
    Some(adapter(base) + pass_memory(&base.description, lengths, widest(base), threads))
}

/// What the largest expert takes to write its text, kept in this way.
fn writing(plan: &MoePlan, models: &Models, circumstances: &Circumstances, way: Quantisation) -> Option<u64> {
    let experts = (0..models.experts.len()).map(|e| models.expert(e)).chain(models.shared_expert());
    // One that is limited to some layers has the base's FFN in the others.
    let experts = experts.chain((!plan.routing.slots.are_plain()).then(|| models.base()));
    let need = |expert: &Source| {
        let bytes = generation_memory(&expert.description, way, &circumstances.written);
        bytes + bytes / KEPT
    };
    (!circumstances.written.is_empty()).then(|| experts.map(need).max().unwrap_or(0))
}

/// What training holds, where gates are trained: all weights where there is `room`, and otherwise a layer's.
fn training(plan: &MoePlan, models: &Models, threads: usize, room: u64) -> Option<u64> {
    let trains = plan.routing.gate_mode == GateMode::PhatGoose;
    trains.then(|| training_memory(plan, &models.base().description, threads).within(room))
}

fn too_small(what: &str, needed: u64, budget: u64) -> Error {
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / (1 << 20) as f64);
    Error::input(format!("{what} needs more memory than it is given"))
        .fact("needed", mib(needed.next_multiple_of(1 << 20)))
        .fact("budget", mib(budget))
        .cause(Cause::OverMemoryBudget { needed })
}
