//! Dense merges: from a recipe to a finished folder.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use moerge_checkpoint::{OutputStorage, ReadStorage};
use moerge_core::{
    error::{Cause, Error, Result},
    execute,
    model::{
        gguf::{QuantisedSource, quantised_sources},
        named_model::NamedModel,
    },
    ops::Identity,
    output::{
        card::{MODEL_CARD, dense_card},
        files::{OptionalFiles, OutputFile, RECIPE_FILE, config_and_index, copied, file, record},
    },
    plan::{DenseModels, DensePlan, DenseSummary},
    progress::Progress,
    recipe::DenseRecipe,
};

use moerge_infer::tokenizer::Tokenizer;

use super::MergeOptions;
use crate::{
    export::MadeFile,
    memory::{PROGRAM, TENSOR, USUAL_MEMORY, default_threads, worker_memory},
    publication::{Publication, Step, Unfinished},
};

mod card;
mod earlier;
mod made;
mod plan;
mod tokenizer;

pub use earlier::earlier_models;
pub use made::EarlierModels;

/// A dense recipe with its models opened and its plan made. Nothing is written yet.
#[derive(Debug)]
pub struct PreparedDense {
    /// What the user wrote.
    pub recipe: DenseRecipe,
    /// The opened models.
    pub models: DenseModels,
    /// What will be written.
    pub plan: DensePlan,
    /// An upper bound in bytes on the memory for tokenizers.
    tokenizer_memory: u64,
}

/// What came of a dense merge.
#[derive(Debug)]
pub struct DenseReport {
    /// The plan in numbers.
    pub summary: DenseSummary,
    /// The folder.
    pub out: PathBuf,
    /// Bytes of all files in it.
    pub bytes: u64,
    /// What the user should know besides the plan's warnings.
    pub warnings: Vec<String>,
    /// Wall time.
    pub elapsed: Duration,
    /// Whether the folder was there already, made by the same recipe from the same sources.
    pub already_there: bool,
    /// The files, where GGUF is written.
    pub gguf_files: Vec<MadeFile>,
    /// What was done by a step after which the output is not finished.
    pub unfinished: Option<Unfinished>,
}

/// Opens the models of `recipe` and makes the plan. Reads headers and small files only. `made` are the models that earlier
/// documents make.
///
/// # Errors
/// A model cannot be opened, or the models do not fit each other.
pub fn prepare_dense(
    storage: &Arc<dyn ReadStorage>,
    recipe: DenseRecipe,
    made: &EarlierModels,
    recipe_dir: &Path,
    options: &MergeOptions,
) -> Result<PreparedDense> {
    let (models, mut plan) = plan::plan_dense(storage, &recipe, made, recipe_dir, options, "")?;
    plan.output.warnings.splice(0..0, made.warnings.iter().cloned());
    let sources = models.0.iter().flat_map(NamedModel::files);
    let quantised = quantised_sources(storage.as_ref(), sources);
    plan.output.warnings.extend(quantised.iter().map(QuantisedSource::warning));
    if options.compare_vocabularies {
        plan.output.warnings.extend(tokenizer::warnings(storage.as_ref(), &recipe, &models, &plan)?);
    }
    let own = tokenizer::memory(storage.as_ref(), &recipe, &models, &plan);
    let tokenizer_memory = own + made.tokenizer_memory;
    Ok(PreparedDense { recipe, models, plan, tokenizer_memory })
}

impl PreparedDense {
    /// Builds the output in the folder `out` of `storage`; `sources` is where the models are.
    ///
    /// # Errors
    /// Something cannot be read or written, or the run was stopped.
    pub fn build(
        &self,
        sources: &dyn ReadStorage,
        storage: &Arc<dyn OutputStorage>,
        out: &Path,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<DenseReport> {
        let start = Instant::now();
        if options.step == Step::Routers {
            return Err(Error::input("a dense merge has no routers").hint("its parts need no other step before them"));
        }
        let files = self.models.0.iter().flat_map(NamedModel::files).collect();
        let publication = Publication::new(storage, out, &self.plan.output, files, &[])?;
        let files = self.files(sources, out, options.optional_files)?;
        let max_bytes = self.max_bytes(&files);
        let id = self.id(&files)?;
        let report = |warnings, bytes, already_there| DenseReport {
            unfinished: None,
            summary: self.summary(),
            out: out.to_owned(),
            bytes,
            warnings,
            elapsed: start.elapsed(),
            already_there,
            gguf_files: Vec::new(),
        };
        let already_there = || report(Vec::new(), publication.published_bytes(), true);
        if publication.is_built(&id)? {
            return Ok(already_there());
        }
        let workers = self.workers(options)?;
        let Some(output) = publication.open(&id, options.step, options.force, max_bytes, progress)? else {
            return Ok(already_there());
        };
        let (computed, part) = (HashMap::<String, Vec<f32>>::new(), options.step.part());
        let written = match execute::write_shards(&self.plan.output, &computed, &output, part, workers, progress) {
            Ok(written) => written,
            Err(error) => return Err(publication.failed(output, error)),
        };
        if part.is_some() {
            let unfinished = publication.unfinished(part, &output)?;
            let bytes = unfinished.bytes;
            return Ok(DenseReport { unfinished: Some(unfinished), ..report(written.warnings, bytes, false) });
        }
        let mut beside = files;
        beside.push(self.record(&id, &written.fingerprints));
        let bytes = publication.finish(output, &beside, |_| Ok(()), progress)?;
        Ok(report(written.warnings, bytes, false))
    }

    /// What the user should know before anything is written.
    pub fn warnings(&self) -> &[String] {
        &self.plan.output.warnings
    }

    /// The plan in numbers.
    pub fn summary(&self) -> DenseSummary {
        DenseSummary::new(&self.recipe, &self.models, &self.plan)
    }

    /// Every file beside the weights, but for the record.
    ///
    /// # Errors
    /// A file cannot be read, or the chat template is unknown.
    pub fn files(&self, storage: &dyn ReadStorage, out: &Path, optional: OptionalFiles) -> Result<Vec<OutputFile>> {
        let mut files = config_and_index(&self.plan.output);
        if optional.card {
            files.push(file(MODEL_CARD, dense_card(&self.card(storage, out)?)));
            files.push(file(RECIPE_FILE, self.recipe.text.to_string()));
        }
        let overrides = tokenizer::overrides(storage, &self.recipe, &self.models, &self.plan)?;
        files.extend(copied(storage, &self.models.0[self.plan.tokenizer].dir, &overrides, optional)?);
        Ok(files)
    }

    /// The tokenizer of the merged model.
    pub(super) fn open_tokenizer(&self, storage: &dyn ReadStorage) -> Result<Tokenizer> {
        let overrides = tokenizer::overrides(storage, &self.recipe, &self.models, &self.plan)?;
        Tokenizer::open_with(storage, &self.models.0[self.plan.tokenizer].dir, &overrides)
    }

    /// An upper bound of the bytes of the finished folder, whose files beside the weights are `files`.
    pub fn max_bytes(&self, files: &[OutputFile]) -> u64 {
        let record = self.record(&"0".repeat(32), &[]).bytes.len() as u64;
        let beside: u64 = files.iter().map(|file| file.bytes.len() as u64).sum();
        self.plan.output.layout.total_file_bytes() + beside + record
    }

    /// An upper bound in bytes on the memory of a build, with as many workers as `options` allow.
    pub fn memory(&self, options: &MergeOptions) -> u64 {
        let (fixed, worker) = (self.fixed_memory(options), self.worker_memory(options));
        let budget = options.memory.unwrap_or(USUAL_MEMORY);
        let room = usize::try_from(budget.saturating_sub(fixed) / worker).unwrap_or(usize::MAX);
        fixed + worker * self.wanted_workers(options).min(room).max(1) as u64
    }

    /// Bytes that do not depend on the number of workers.
    fn fixed_memory(&self, options: &MergeOptions) -> u64 {
        let tensors: usize = self.plan.output.tensors.iter().map(|tensor| 1 + tensor.expr.reads().len()).sum();
        PROGRAM + TENSOR * tensors as u64 + self.tokenizer_memory + options.storages.fixed
    }

    fn worker_memory(&self, options: &MergeOptions) -> u64 {
        worker_memory(&self.plan.output.tensors) + options.storages.per_worker
    }

    fn workers(&self, options: &MergeOptions) -> Result<usize> {
        let needed = self.memory(options);
        if let Some(budget) = options.memory.filter(|budget| needed > *budget) {
            let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
            return Err(Error::input("merging exceeds the memory budget")
                .fact("needed", mib(needed))
                .fact("budget", mib(budget))
                .cause(Cause::OverMemoryBudget { needed }));
        }
        Ok(((needed - self.fixed_memory(options)) / self.worker_memory(options)) as usize)
    }

    fn wanted_workers(&self, options: &MergeOptions) -> usize {
        options.threads.unwrap_or_else(default_threads)
    }

    /// Equal ids, equal bytes in the output, on any machine.
    pub(super) fn id(&self, files: &[OutputFile]) -> Result<String> {
        let mut id = Identity::default();
        self.plan.identify(&mut id)?;
        id.list(files.iter(), |id, file| {
            id.text(&file.name).bytes(&file.bytes);
        });
        Ok(id.finish())
    }

    fn record(&self, id: &str, fingerprints: &[(String, moerge_checkpoint::Fingerprint)]) -> OutputFile {
        let sources: Vec<_> = self.models.0.iter().flat_map(NamedModel::files).collect();
        record(id, &self.recipe.text, &sources, &self.plan.output, fingerprints)
    }
}
