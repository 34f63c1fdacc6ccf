//! From a recipe to a finished folder: [`prepare()`] opens and plans, [`Prepared::build`] makes the routers, writes,
//! checks, publishes.

use std::{path::PathBuf, time::Duration};

use moerge_checkpoint::Dtype;

use crate::{export::MadeFile, memory::StorageMemory, routers::RoutingReport};
use moerge_core::{
    model::locate::HubCache,
    output::files::OptionalFiles,
    plan::{Models, MoePlan, PlanSummary},
    recipe::Recipe,
};
use moerge_infer::decoder::WeightRounding;

mod build;
mod dense;
mod difference;
mod gates;
mod gguf;
mod needs;
mod prepare;
mod routers;

pub use crate::publication::{Step, Unfinished};
pub use dense::{DenseReport, EarlierModels, PreparedDense, earlier_models, prepare_dense};
pub use prepare::{prepare, prepare_with};

/// Options besides the recipe.
#[derive(Debug, Clone)]
pub struct MergeOptions {
    /// Maximum bytes per shard.
    pub shard_bytes: u64,
    /// Seed of noise and random gates; by default the recipe's.
    pub random_seed: Option<u64>,
    /// Worker threads; by default as many as suit the machine.
    pub threads: Option<usize>,
    /// Memory budget in bytes. A small budget reduces the number of writing threads; a merge that cannot stay within it
    /// is refused before anything is written. By default, writing stays within [`crate::memory::USUAL_MEMORY`].
    pub memory: Option<u64>,
    /// Rounding of the base's weights in the prompt pass.
    pub rounding: Option<WeightRounding>,
    /// The dtype that weights with a merged LoRA are rounded to first.
    pub lora_dtype: Option<Dtype>,
    /// Whether embeddings of different length are cut to the shortest, in dense merges.
    pub truncate_embeddings: bool,
    /// Whether fitted routers are shifted until no expert is starved.
    pub balance: bool,
    /// What of the merge is done.
    pub step: Step,
    /// Whether an existing output folder is replaced.
    pub force: bool,
    /// Whether all experts may be the same model.
    pub allow_same_experts: bool,
    /// Which files are written besides the weights.
    pub optional_files: OptionalFiles,
    /// Whether the experts' tokenizers are read, to warn about tokens that differ from the base's.
    pub compare_vocabularies: bool,
    /// Whether some rows of the experts' attention, norms and embeddings are read, to warn about experts whose training
    /// changed weights that the MoE takes from the base. Always done if routers are fitted.
    pub measure_shared: bool,
    /// The cache of downloaded models.
    pub cache: HubCache,
    /// Memory of the storages that models are read from and the output is written to.
    pub storages: StorageMemory,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self {
            shard_bytes: 5_000_000_000,
            random_seed: None,
            threads: None,
            memory: None,
            rounding: None,
            lora_dtype: None,
            truncate_embeddings: false,
            balance: false,
            step: Step::Whole,
            force: false,
            allow_same_experts: false,
            optional_files: OptionalFiles { tokenizer: true, card: true },
            compare_vocabularies: true,
            measure_shared: true,
            cache: HubCache::default(),
            storages: StorageMemory::default(),
        }
    }
}

/// A recipe with its models opened and its plan made. Nothing is written yet.
#[derive(Debug)]
pub struct Prepared {
    /// What the user wrote.
    pub recipe: Recipe,
    /// The opened models.
    pub models: Models,
    /// What will be written.
    pub plan: MoePlan,
    /// Bytes of memory that merging the vocabularies of earlier documents takes.
    pub earlier_tokenizers: u64,
}

/// The result of a merge.
#[derive(Debug)]
pub struct MergeReport {
    /// The plan in numbers.
    pub summary: PlanSummary,
    /// The folder.
    pub out: PathBuf,
    /// Bytes of all files in it.
    pub bytes: u64,
    /// Warnings, including those of the plan.
    pub warnings: Vec<String>,
    /// Wall time.
    pub elapsed: Duration,
    /// The quality of fitted routers.
    pub routing: Option<RoutingReport>,
    /// Whether the folder existed already, made by the same recipe from the same sources.
    pub already_there: bool,
    /// The files, where GGUF is written.
    pub gguf_files: Vec<MadeFile>,
    /// What was done by a step after which the output is not finished.
    pub unfinished: Option<Unfinished>,
}
