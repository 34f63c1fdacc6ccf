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
        files::{CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG},
        locate::{ModelNotFound, locate},
        named_model::NamedModel,
        source::{Vocabulary, read_text},
        tokenizer_file::TokenizerFile,
    },
    ops::Identity,
    output::{
        card::{MODEL_CARD, dense_card},
        chat_template,
        files::{OutputFile, RECIPE_FILE, Wanted, config_and_index, copied_files, file, read_files, record},
    },
    plan::{DenseModels, DensePlan, DensePlanOptions, DenseSummary},
    progress::Progress,
    recipe::{DenseRecipe, EarlierDocument},
};
use serde_json::Value;

use super::{MergeOptions, publish::Publication};
use crate::memory::{PROGRAM, TENSOR, USUAL_MEMORY, default_threads, worker_memory};
use crate::verify::small_files;

mod card;

/// Bytes of memory per byte of a `tokenizer.json` that is parsed to merge vocabularies: its JSON, its tokens, and the
/// written text. Measured: 6.5 to 7 with two to five of SmolLM2's.
const PARSED_TOKENIZER: u64 = 8;
/// Files that hold the tokens, beside the one that is written for a merged vocabulary.
const STALE: [&str; 8] = [
    TOKENIZER,
    "tokenizer.model",
    "tokenizer.model.v3",
    "tekken.json",
    "spiece.model",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
];

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
    /// What the user should know, the plan's warnings among them.
    pub warnings: Vec<String>,
    /// Wall time.
    pub elapsed: Duration,
    /// Whether the folder was there already, made by the same recipe from the same sources.
    pub already_there: bool,
}

/// Opens the models of `recipe` and makes the plan. Reads headers and configs only. `made` are the models that earlier
/// documents make.
///
/// # Errors
/// A model cannot be opened, or the models do not fit each other.
pub fn prepare_dense(
    storage: &Arc<dyn ReadStorage>,
    recipe: DenseRecipe,
    made: &[NamedModel],
    recipe_dir: &Path,
    options: &MergeOptions,
) -> Result<PreparedDense> {
    let (models, plan) = plan_dense(storage, &recipe, made, recipe_dir, options, "")?;
    let tokenizer_memory = tokenizer_memory(storage.as_ref(), &recipe, &models, &plan);
    Ok(PreparedDense { recipe, models, plan, tokenizer_memory })
}

/// Merged vocabularies hold every model's parsed tokenizer and the result; a copied one is only its bytes.
fn tokenizer_memory(storage: &dyn ReadStorage, recipe: &DenseRecipe, models: &DenseModels, plan: &DensePlan) -> u64 {
    let length = |model: &NamedModel| storage.facts(&model.dir.join(TOKENIZER)).map_or(0, |facts| facts.len);
    let lengths: Vec<u64> = models.0.iter().map(length).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    if recipe.tokenizer.is_none() {
        return longest;
    }
    let written = plan.tokenizer_file.as_ref().map_or(longest, |merged| merged.to_text().len() as u64);
    PARSED_TOKENIZER * (lengths.iter().sum::<u64>() + written)
}

/// The models that the documents before the last make, in order. Reads headers and configs only.
///
/// # Errors
/// As those of [`prepare_dense`].
pub fn earlier_models(
    storage: &Arc<dyn ReadStorage>,
    earlier: &[EarlierDocument],
    recipe_dir: &Path,
    options: &MergeOptions,
) -> Result<Vec<NamedModel>> {
    let mut made: Vec<NamedModel> = Vec::new();
    for EarlierDocument { name, recipe } in earlier {
        let key = format!("{name}/");
        let (models, plan) = plan_dense(storage, recipe, &made, recipe_dir, options, &key)?;
        made.push(plan.as_model(name, &models));
    }
    Ok(made)
}

fn plan_dense(
    storage: &Arc<dyn ReadStorage>,
    recipe: &DenseRecipe,
    made: &[NamedModel],
    recipe_dir: &Path,
    options: &MergeOptions,
    mask_key: &str,
) -> Result<(DenseModels, DensePlan)> {
    let mut models: Vec<NamedModel> = Vec::new();
    for reference in recipe.models() {
        let name = reference.value.to_string();
        if models.iter().any(|model| model.reference == name) {
            continue;
        }
        if let Some(made) = made.iter().find(|made| made.reference == name) {
            models.push(made.clone());
            continue;
        }
        let place = |error: Error| {
            if error.parts().snippet.is_some() { error } else { error.at(recipe.snippet(&reference.span, "")) }
        };
        let folders = locate(storage.as_ref(), &reference.value, recipe_dir, &options.cache)
            .map_err(|e: ModelNotFound| place(Error::from(e)))?;
        let (model, adapter) = (&folders.model, folders.adapter.as_deref());
        models.push(NamedModel::open(storage, &name, model, adapter, options.lora_dtype).map_err(place)?);
    }
    let models = DenseModels(models);
    let plan_options = DensePlanOptions {
        shard_bytes: options.shard_bytes,
        seed: options.random_seed.or(recipe.random_seed).unwrap_or(0),
        lora_dtype: options.lora_dtype,
        truncate_embeddings: options.truncate_embeddings,
        mask_key: mask_key.to_owned(),
    };
    let tokenizer = |model: &NamedModel| match &model.tokenizer {
        Some(tokenizer) => Ok(tokenizer.clone()),
        None => TokenizerFile::open(storage.as_ref(), &model.dir),
    };
    let tokenizers = match &recipe.tokenizer {
        Some(_) => models.0.iter().map(tokenizer).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    let plan = DensePlan::new(recipe, &models, &tokenizers, &plan_options)?;
    Ok((models, plan))
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
        let files = self.models.0.iter().flat_map(NamedModel::files).collect();
        let publication = Publication::new(storage, out, &self.plan.output, files, &[])?;
        let files = self.files(sources, out, options.wanted)?;
        let max_bytes = self.max_bytes(&files);
        let id = self.id(&files)?;
        let report = |warnings, bytes, already_there| DenseReport {
            summary: self.summary(),
            out: out.to_owned(),
            bytes,
            warnings,
            elapsed: start.elapsed(),
            already_there,
        };
        let already_there = || report(self.plan.output.warnings.clone(), publication.published_bytes(), true);
        if publication.is_built(&id)? {
            return Ok(already_there());
        }
        let workers = self.workers(options)?;
        let Some(output) = publication.open(&id, options.force, max_bytes, progress)? else {
            return Ok(already_there());
        };
        let computed: HashMap<String, Vec<f32>> = HashMap::new();
        let written = execute::write_shards(&self.plan.output, &computed, &output, workers, progress)?;
        let mut warnings = self.plan.output.warnings.clone();
        warnings.extend(written.warnings);
        warnings.extend(files.iter().filter_map(|file| {
            let problem = small_files::problem(&file.name, &file.bytes)?;
            Some(format!("{} {problem}; readers will refuse it", file.name))
        }));
        if options.compare_vocabularies && self.recipe.tokenizer.is_none() {
            warnings.extend(self.vocabulary_warnings(sources));
        }
        let mut beside = files;
        beside.push(self.record(&id, &written.fingerprints));
        let bytes = publication.finish(output, &beside, |_| Ok(()), progress)?;
        Ok(report(warnings, bytes, false))
    }

    /// Models whose tokens mean something else than those of the model that gives the tokenizer.
    fn vocabulary_warnings(&self, storage: &dyn ReadStorage) -> Vec<String> {
        let lead = &self.models.0[self.plan.tokenizer];
        let Some(own) = Vocabulary::read(storage, &lead.dir) else { return Vec::new() };
        let others = self.models.0.iter().filter(|model| model.dir != lead.dir);
        let warning = |model: &NamedModel| {
            let what = Vocabulary::read(storage, &model.dir)?.differs_from(&own)?;
            Some(format!("{}: {what}; `tokenizer_source: union` merges the vocabularies", model.reference))
        };
        others.filter_map(warning).collect()
    }

    /// The plan in numbers.
    pub fn summary(&self) -> DenseSummary {
        DenseSummary::new(&self.recipe, &self.models, &self.plan)
    }

    /// Every file beside the weights, but for the record.
    ///
    /// # Errors
    /// A file cannot be read, or the chat template is none.
    pub fn files(&self, storage: &dyn ReadStorage, out: &Path, wanted: Wanted) -> Result<Vec<OutputFile>> {
        let mut files = config_and_index(&self.plan.output);
        if wanted.card {
            files.push(file(MODEL_CARD, dense_card(&self.card(storage, out)?)));
            files.push(file(RECIPE_FILE, self.recipe.text.to_string()));
        }
        let dir = |index: usize| &self.models.0[index].dir;
        let copied = copied_files(storage, dir(self.plan.lead), dir(self.plan.tokenizer), wanted)?;
        files.extend(read_files(storage, copied)?);
        let of_model = &self.models.0[self.plan.tokenizer].tokenizer;
        let tokenizer = self.plan.tokenizer_file.as_ref().or(of_model.as_ref());
        if let Some(tokenizer) = tokenizer.filter(|_| wanted.tokenizer) {
            // Other files of a tokenizer would still have the tokens of one model.
            files.retain(|file| !STALE.contains(&file.name.as_str()));
            files.push(file(TOKENIZER, tokenizer.to_text()));
        }
        if let Some(written) = &self.recipe.chat_template {
            let templates: Vec<Option<String>> =
                self.models.0.iter().map(|model| template_of(storage, &model.dir)).collect();
            let template = chat_template::chosen(written, &templates)
                .map_err(|error| error.at(self.recipe.snippet(&written.span, "")))?;
            chat_template::set(&mut files, &template);
        }
        Ok(files)
    }

    /// An upper bound of the bytes of the finished folder, whose files beside the weights are `files`.
    pub fn max_bytes(&self, files: &[OutputFile]) -> u64 {
        let record = self.record(&"0".repeat(32), &[]).bytes.len() as u64;
        let beside: u64 = files.iter().map(|file| file.bytes.len() as u64).sum();
        self.plan.output.layout.total_file_bytes() + beside + record
    }

    /// An upper bound in bytes on the memory of a build, with as many workers as `options` allow.
    pub fn memory(&self, options: &MergeOptions) -> u64 {
        let (fixed, worker) = (self.fixed_memory(), worker_memory(&self.plan.output.tensors));
        let budget = options.memory.unwrap_or(USUAL_MEMORY);
        let room = usize::try_from(budget.saturating_sub(fixed) / worker).unwrap_or(usize::MAX);
        fixed + worker * self.wanted_workers(options).min(room).max(1) as u64
    }

    /// Bytes that do not depend on the number of workers.
    fn fixed_memory(&self) -> u64 {
        let tensors: usize = self.plan.output.tensors.iter().map(|tensor| 1 + tensor.expr.reads().len()).sum();
        PROGRAM + TENSOR * tensors as u64 + self.tokenizer_memory
    }

    fn workers(&self, options: &MergeOptions) -> Result<usize> {
        let needed = self.memory(options);
        if let Some(budget) = options.memory.filter(|budget| needed > *budget) {
            let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
            return Err(Error::input("merging needs more memory than it is given")
                .fact("needed", mib(needed))
                .fact("budget", mib(budget))
                .cause(Cause::OverMemoryBudget { needed }));
        }
        Ok(((needed - self.fixed_memory()) / worker_memory(&self.plan.output.tensors)) as usize)
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

/// The chat template in a model's folder.
fn template_of(storage: &dyn ReadStorage, dir: &Path) -> Option<String> {
    if let Ok(text) = read_text(storage, &dir.join(CHAT_TEMPLATE)) {
        return Some(text);
    }
    let config: Value = serde_json::from_str(&read_text(storage, &dir.join(TOKENIZER_CONFIG)).ok()?).ok()?;
    config.get("chat_template")?.as_str().map(str::to_owned)
}
