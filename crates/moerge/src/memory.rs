//! The most memory that a merge holds, known before it begins: a pure function of the plan, the prompts' tokens and the
//! number of threads. What it adds up are the buffers of [`crate::execute`] and of the prompt pass; the constants are
//! measured, and `tests/limits.rs` holds the sum against the real process.

use checkpoint::Dtype;
use serde::Serialize;

use crate::{
    error::{Error, Result},
    plan::{Models, OutputTensor, Plan},
    recipe::GateMode,
    transformer::pass_memory,
};

/// The program itself: code, stacks, and what the allocator keeps.
const PROGRAM: u64 = 12 << 20;
/// Names, places and headers of a tensor, of the output or of a source.
const TENSOR: u64 = 4 << 10;
/// A tokenizer in memory against its file.
const TOKENIZER: u64 = 14;
/// What a worker holds that copies, and one that merges an adapter.
const COPYING: u64 = 1 << 20;
const MERGING: u64 = 16 << 20;

/// The prompts as far as memory is concerned.
#[derive(Debug, Clone, Default)]
pub struct PromptTokens {
    /// Tokens of each distinct prompt.
    pub lengths: Vec<usize>,
    /// Length of `tokenizer.json`.
    pub tokenizer_bytes: u64,
}

/// Bytes that a merge holds at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryNeed {
    /// While the prompts go through the base; 0 where they don't, and where routers are fitted, which is not counted.
    pub prompts: u64,
    /// While the weights are written, by [`MemoryNeed::workers`].
    pub weights: u64,
    /// Threads that write, as many as the budget has room for.
    pub workers: usize,
}

impl MemoryNeed {
    /// The need of `plan`, with at most `workers` threads that write and `threads` that multiply. A `budget` that is
    /// too small for all workers has fewer of them, one at the least.
    pub fn of(
        plan: &Plan,
        models: &Models,
        prompts: &PromptTokens,
        (workers, threads): (usize, usize),
        budget: u64,
    ) -> Self {
        let tensors = plan.tensors.len() + models.sources.iter().map(|s| s.checkpoint.len()).sum::<usize>();
        let fixed = PROGRAM + TENSOR * tensors as u64 + TOKENIZER * prompts.tokenizer_bytes;
        let merges = |t: &OutputTensor| t.step.merges_adapter();
        let worker = if plan.tensors.iter().any(merges) { MERGING } else { COPYING };
        let room = usize::try_from(budget.saturating_sub(fixed) / worker).unwrap_or(usize::MAX);
        let workers = workers.min(room).max(1);
        let pass = pass(plan, models, prompts, threads);
        Self { prompts: pass.map_or(0, |pass| fixed + pass), weights: fixed + workers as u64 * worker, workers }
    }

    /// Whether a run keeps within `budget` bytes.
    ///
    /// # Errors
    /// Where it does not, with what it needs.
    pub fn within(&self, budget: u64) -> Result<()> {
        if self.prompts > budget {
            let few = "or give it fewer and shorter prompts; `gate_mode: cheap_embed` needs no pass";
            return Err(too_small("the prompt pass", self.prompts, budget).hint(few));
        }
        if self.weights > budget {
            return Err(too_small("writing the weights", self.weights, budget));
        }
        Ok(())
    }

    /// The larger of the two.
    pub fn peak(&self) -> u64 {
        self.prompts.max(self.weights)
    }
}

/// What the pass over the base holds, where there is one.
fn pass(plan: &Plan, models: &Models, prompts: &PromptTokens, threads: usize) -> Option<u64> {
    let mode = plan.routing.gate_mode;
    if !mode.needs_prompts() || mode.is_fitted() || mode == GateMode::CheapEmbed {
        return None;
    }
    let base = models.base();
    let bytes = |dtype: Dtype| dtype.size_bits().div_ceil(8) as usize;
    let weight_bytes = base.weights().map(|w| bytes(w.view.dtype)).max().unwrap_or(4);
    // The A matrices of a base's adapter are held in f32.
    let adapter: u64 = base.weights().filter_map(|w| w.lora.as_ref()).map(|lora| 4 * lora.a.elements()).sum();
    Some(adapter + pass_memory(&base.description, &prompts.lengths, weight_bytes, threads))
}

fn too_small(what: &str, needed: u64, budget: u64) -> Error {
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / (1 << 20) as f64);
    Error::input(format!("{what} needs more memory than it is given"))
        .fact("needed", mib(needed.next_multiple_of(1 << 20)))
        .fact("budget", mib(budget))
        .hint(format!("--memory {}MiB", needed.div_ceil(1 << 20)))
}
