//! An upper bound on a merge's memory, known before it starts: a pure function of the plan, the prompts' token counts and
//! the number of threads. It adds up the buffers of [`moerge_core::execute`] and of the prompt pass.
//!
//! The constants were measured as the peak resident set (VmHWM, glibc) of real merges of SmolLM2-135M with three adapters:
//! for `hidden`, `calibrated` and dense merges the bound exceeds the peak by 7 to 35 %. `tests/it/limits.rs` compares both
//! on small models.

use moerge_checkpoint::Dtype;

use crate::routers::{fit_memory, training_memory};
use moerge_core::{
    error::{Cause, Error, Result},
    model::source::Source,
    ops::Expr,
    plan::{Models, MoePlan, OutputTensor},
    recipe::GateMode,
};
use moerge_infer::decoder::{Quantisation, generation_memory, pass_memory};

/// Code, stacks, and free memory that the allocator keeps. What a development build does not optimise is larger.
pub(crate) const PROGRAM: u64 = if cfg!(debug_assertions) { 32 << 20 } else { 18 << 20 };
/// Name, location and header of a tensor, in the output or in a source.
pub(crate) const TENSOR: u64 = 4 << 10;
/// Bytes of a loaded tokenizer per byte of its file.
pub(crate) const TOKENIZER: u64 = 14;
/// Buffers of a worker that copies tensors or converts their dtype.
const COPYING: u64 = 1 << 20;
/// Buffers of a worker per input of a merge method, and as much again for two more.
const INPUT: u64 = 1 << 20;
/// Where an adapter is merged, tensors are computed in pieces of this many elements.
const ADAPTED_ELEMENTS: u64 = 1 << 20;
/// Buffers of a worker that merges adapters: for the output, and per input besides the bytes read from its file.
const ADAPTED_OUTPUT: u64 = 12 << 20;
const ADAPTED_INPUT: u64 = 4 << 20;

/// Of an expert's memory while it writes text, the part (1/16) that the allocator may still keep of the previous expert
/// (measured with four experts of 1.6 GB).
const KEPT: u64 = 16;

/// Extra memory in the arenas of the threads that generate text, for any model (measured on the smallest).
const WRITING: u64 = 6 << 20;

/// Memory for writing weights if the user sets no limit.
pub const USUAL_MEMORY: u64 = 2 << 30;

/// Memory of storages that buffer what is read and written, as those of object stores do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StorageMemory {
    /// Bytes in all.
    pub fixed: u64,
    /// Bytes for each thread that writes.
    pub per_worker: u64,
}

/// What the bound depends on besides the plan.
#[derive(Debug, Clone, Default)]
pub struct MemoryInputs {
    /// Tokens of each sequence that goes through a model: distinct prompts, or the text that routers are fitted to.
    pub lengths: Vec<usize>,
    /// Tokens of each sample that one expert writes; empty if experts write nothing.
    pub written: Vec<usize>,
    /// Length of `tokenizer.json`.
    pub tokenizer_bytes: u64,
    /// What merging the vocabularies of earlier documents takes, which the allocator may keep.
    pub earlier_tokenizers: u64,
    /// Threads that write, if there is room for them.
    pub workers: usize,
    /// Threads that multiply.
    pub threads: usize,
    /// The user's limit in bytes.
    pub budget: Option<u64>,
    /// What the storages take.
    pub storages: StorageMemory,
}

/// Upper bounds in bytes, one per phase of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// While prompts go through the base, or text through the MoE whose routers are fitted; 0 without either.
    pub prompts: u64,
    /// While an expert writes text; 0 if none does.
    pub self_text: u64,
    /// While gates are trained; 0 if none are.
    pub training: u64,
    /// While the weights are written, by [`MemoryNeed::workers`].
    pub weights: u64,
    /// Writing threads that fit the budget, at least one.
    pub workers: usize,
    /// The budget minus what a run always holds.
    pub room: u64,
    /// How an expert's weights are stored in memory while it writes text.
    pub expert: Quantisation,
}

impl MemoryNeed {
    /// The need of `plan`. A small budget reduces the number of workers, down to one.
    pub fn of(plan: &MoePlan, models: &Models, inputs: &MemoryInputs) -> Self {
        let tensors = plan.output.tensors.len() + models.sources.iter().map(|s| s.checkpoint.len()).sum::<usize>();
        let fixed = PROGRAM + TENSOR * tensors as u64 + TOKENIZER * inputs.tokenizer_bytes + inputs.earlier_tokenizers;
        let weights_alone = fixed;
        let fixed = fixed + inputs.storages.fixed;
        let worker = worker_memory(&plan.output.tensors) + inputs.storages.per_worker;
        let budget = inputs.budget.unwrap_or(USUAL_MEMORY);
        let room = usize::try_from(budget.saturating_sub(fixed) / worker).unwrap_or(usize::MAX);
        let workers = inputs.workers.min(room).max(1);
        let pass = pass(plan, models, inputs);
        // The choice depends on the budget alone, not on threads, storages or free memory: the same recipe gives the same
        // text on every machine.
        let fits = |bytes: u64| weights_alone + bytes <= budget;
        let expert = match writing(plan, models, inputs, Quantisation::Q8_0, CHOOSING_THREADS) {
            Some(bytes) if !fits(bytes) => Quantisation::Q4K,
            _ => Quantisation::Q8_0,
        };
        let self_text = writing(plan, models, inputs, expert, inputs.threads - 1).map(|bytes| fixed + bytes);
        let training = training(plan, models, inputs.threads, budget.saturating_sub(fixed));
        // The arenas stay when the text is written.
        let arenas = if inputs.written.is_empty() { 0 } else { WRITING };
        Self {
            prompts: pass.map_or(0, |pass| fixed + pass + arenas),
            self_text: self_text.unwrap_or(0),
            training: training.map_or(0, |training| fixed + training),
            weights: fixed + workers as u64 * worker,
            workers,
            room: budget.saturating_sub(fixed),
            expert,
        }
    }

    /// Checks that a run fits into `budget` bytes.
    ///
    /// # Errors
    /// It does not; the error says what it needs.
    pub fn within(&self, budget: u64) -> Result<()> {
        if self.prompts > budget {
            let few = "give it fewer and shorter prompts; `gate_mode: cheap_embed` needs no pass";
            return Err(self.too_small("the pass over the prompts", self.prompts, budget).hint(few));
        }
        if self.self_text > budget {
            let yours = "`gate_mode: calibrated` fits the routers to your own text, in less memory";
            return Err(self.too_small("generating the text of an expert", self.self_text, budget).hint(yours));
        }
        if self.training > budget {
            let less = "make `batch_tokens` of `phatgoose` smaller; `gate_mode: calibrated` needs no gradients";
            return Err(self.too_small("training the gates", self.training, budget).hint(less));
        }
        if self.weights > budget {
            return Err(self.too_small("writing the weights", self.weights, budget));
        }
        Ok(())
    }

    /// The error about a phase. What would be enough is what the largest phase needs.
    fn too_small(&self, what: &str, needed: u64, budget: u64) -> Error {
        too_small(what, needed, self.peak(), budget)
    }

    /// The largest phase.
    pub fn peak(&self) -> u64 {
        self.prompts.max(self.self_text).max(self.training).max(self.weights)
    }
}

/// Bytes of the pass over the base, or over the MoE where routers are fitted; `None` without a pass.
fn pass(plan: &MoePlan, models: &Models, inputs: &MemoryInputs) -> Option<u64> {
    let mode = plan.routing.gate_mode;
    let (lengths, threads) = (&inputs.lengths, inputs.threads);
    let bytes = |dtype: Dtype| dtype.size_bits().div_ceil(8) as usize;
    let widest = |source: &Source| source.weights().map(|w| bytes(w.dtype)).max().unwrap_or(4);
    // An adapter's A matrices are held in f32.
    let adapter = |source: &Source| -> u64 {
        source.weights().filter_map(|w| w.lora.as_ref()).map(|lora| 4 * lora.a.elements()).sum()
    };
    if mode.is_fitted() {
        let weight = models.sources.iter().map(widest).max().unwrap_or(4);
        let adapters: u64 = models.sources.iter().map(adapter).sum();
        let fitting = fit_memory(&plan.description.decoder, lengths.iter().sum(), threads);
        return Some(adapters + fitting + pass_memory(&plan.description, lengths, weight, threads));
    }
    if !mode.needs_prompts() || mode == GateMode::CheapEmbed {
        return None;
    }
    let base = models.base();
    Some(adapter(base) + pass_memory(&base.description, lengths, widest(base), threads))
}

/// Threads that are assumed where memory decides what comes out.
pub(crate) const CHOOSING_THREADS: usize = 16;

/// Bytes of the largest expert while it writes text, stored as `way`, on `threads`.
fn writing(plan: &MoePlan, models: &Models, inputs: &MemoryInputs, way: Quantisation, threads: usize) -> Option<u64> {
    let experts = (0..models.experts.len()).map(|e| models.expert(e)).chain(models.shared_expert());
    // A partial expert has the base's FFN in the layers without it.
    let experts = experts.chain((!plan.routing.slots.are_plain()).then(|| models.base()));
    let need = |expert: &Source| {
        let bytes = generation_memory(&expert.description, way, &inputs.written, models.sources.len(), threads);
        bytes + bytes / KEPT + WRITING
    };
    (!inputs.written.is_empty()).then(|| experts.map(need).max().unwrap_or(0))
}

/// Bytes of training the gates: all weights if they fit into `room`, otherwise those of one layer.
fn training(plan: &MoePlan, models: &Models, threads: usize, room: u64) -> Option<u64> {
    let trains = plan.routing.gate_mode == GateMode::PhatGoose;
    trains.then(|| training_memory(plan, &models.base().description, threads).within(room))
}

/// Reads and writes wait for the disk: more workers than cores.
pub(crate) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(4, |n| n.get().clamp(4, 16))
}

/// How many workers write `tensors` within a budget of memory.
///
/// # Errors
/// One alone needs more.
pub(crate) fn workers_within(
    tensors: &[OutputTensor],
    threads: Option<usize>,
    budget: Option<u64>,
    storages: StorageMemory,
) -> Result<usize> {
    let reads: usize = tensors.iter().map(|tensor| 1 + tensor.expr.reads().len()).sum();
    let fixed = PROGRAM + TENSOR * reads as u64 + storages.fixed;
    let worker = worker_memory(tensors) + storages.per_worker;
    let room = budget.unwrap_or(USUAL_MEMORY).saturating_sub(fixed) / worker;
    if room == 0 {
        return Err(too_small("writing", fixed + worker, fixed + worker, budget.unwrap_or(USUAL_MEMORY)));
    }
    Ok(threads.unwrap_or_else(default_threads).min(usize::try_from(room).unwrap_or(usize::MAX)))
}

/// Bytes of the buffers of a worker that can write any of `tensors`.
pub(crate) fn worker_memory(tensors: &[OutputTensor]) -> u64 {
    let bytes = |tensor: &OutputTensor| {
        let mut inputs = ExprInputs::default();
        inputs.count(&tensor.expr);
        if tensor.expr.merges_adapter() {
            ADAPTED_OUTPUT + inputs.leaves * ADAPTED_INPUT + inputs.element_bytes * ADAPTED_ELEMENTS + inputs.a_bytes
        } else if inputs.combines {
            (inputs.leaves + 2) * INPUT + inputs.remembered
        } else {
            COPYING
        }
    };
    tensors.iter().map(bytes).max().unwrap_or(COPYING)
}

/// What an expression is computed from.
#[derive(Default)]
struct ExprInputs {
    leaves: u64,
    /// Bytes of one element of every leaf.
    element_bytes: u64,
    /// The A matrices of adapters in f32.
    a_bytes: u64,
    combines: bool,
    /// What merge methods remember of the tensor.
    remembered: u64,
}

impl ExprInputs {
    fn count(&mut self, expr: &Expr) {
        match expr {
            Expr::View(view) => {
                self.leaves += 1;
                self.element_bytes += u64::from(view.dtype.size_bits().div_ceil(8));
            }
            Expr::Lora { delta, .. } => self.a_bytes += 4 * delta.a.elements(),
            Expr::Combine { method, .. } => {
                self.combines = true;
                self.remembered += method.remembered_bytes(expr.shape().iter().map(|dim| *dim as u64).product());
            }
            _ => (),
        }
        expr.inputs().iter().for_each(|input| self.count(input));
    }
}

/// The error about a phase that needs `needed` bytes, in a run that needs `whole`.
pub(crate) fn too_small(what: &str, needed: u64, whole: u64, budget: u64) -> Error {
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / (1 << 20) as f64);
    let error = Error::input(format!("{what} exceeds the memory budget"))
        .fact("needed", mib(needed.next_multiple_of(1 << 20)))
        .fact("budget", mib(budget))
        .cause(Cause::OverMemoryBudget { needed: whole });
    if whole > needed { error.fact("whole run", mib(whole.next_multiple_of(1 << 20))) } else { error }
}
