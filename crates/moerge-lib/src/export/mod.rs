//! A model as a GGUF file, for llama.cpp and what is built on it.

mod facts;
mod imatrix;
mod weights;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use moerge_checkpoint::{Checkpoint, OutputDir, OutputStorage, ReadStorage};
use moerge_core::{
    error::Result,
    execute::{self, Written},
    model::source_files::SourceFiles,
    ops::ComputedValues,
    plan::gguf::{FileType, GgufModel, GgufOptions, GgufPlan, ImportanceMatrix, TypeRule, WithImportance},
    progress::Progress,
};

use crate::{memory::workers_within, publication::Publication};
pub use facts::ModelFacts;
pub use imatrix::{Imatrix, ImatrixSource};
pub(crate) use imatrix::{importance, write as write_imatrix};
use moerge_infer::tokenizer::Tokenizer;

/// What the user can set.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The mix of types.
    pub file_type: FileType,
    /// Types for tensors by name, before the mix.
    pub rules: Vec<TypeRule>,
    /// llama.cpp's name of the pre-tokenizer, where it is not to be found out.
    pub pre_tokenizer: Option<String>,
    /// The model's name in the metadata; the folder's where it is not given.
    pub name: Option<String>,
    /// Where the importance matrix comes from, if one is used.
    pub imatrix: Option<ImatrixSource>,
    /// Where the importance matrix is written.
    pub imatrix_out: Option<PathBuf>,
    /// Whether an existing file is replaced.
    pub force: bool,
    /// Worker threads; by the machine where it is not given.
    pub threads: Option<usize>,
    /// Memory to stay within, in bytes.
    pub memory: Option<u64>,
}

/// A file that is ready to be written.
#[derive(Debug)]
pub struct PreparedExport {
    /// The plan.
    pub plan: GgufPlan,
    imatrix: Option<Imatrix>,
    dir: PathBuf,
    checkpoint: Checkpoint,
}

/// What was written.
#[derive(Debug)]
pub struct ExportReport {
    /// Bytes of the file.
    pub bytes: u64,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
    /// Whether it was there already.
    pub already_there: bool,
}

/// Plans the file `out` of the model in `dir`. Reads headers and small files only.
///
/// # Errors
/// The model cannot be read, or has no place in GGUF.
pub fn prepare_export(
    storage: &Arc<dyn ReadStorage>,
    dir: &Path,
    out: &Path,
    options: &ExportOptions,
) -> Result<PreparedExport> {
    let model = GgufModel::open(storage, dir)?;
    let facts = ModelFacts::read(storage.as_ref(), dir, model.config.vocab_size, options)?;
    let imatrix = options.imatrix.as_ref().map(Imatrix::open).transpose()?;
    let options = gguf_options(out, options, imatrix.as_ref());
    let plan = GgufPlan::new(model, &facts.vocabulary, &facts.general, &options)?;
    Ok(PreparedExport { plan, imatrix, dir: dir.to_owned(), checkpoint: Checkpoint::open(storage, dir)? })
}

/// The plan's options for a file called `out`.
pub(crate) fn gguf_options(out: &Path, options: &ExportOptions, imatrix: Option<&Imatrix>) -> GgufOptions {
    let stem = out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let (file_type, rules) = (options.file_type, options.rules.clone());
    GgufOptions { file_type, rules, max_bytes: None, stem, imatrix: imatrix.map(|imatrix| imatrix.facts.clone()) }
}

/// Writes the weights of `plan`, by their importance if there is a matrix of it.
///
/// # Errors
/// The matrix is of another model, or something cannot be read or written.
pub(crate) fn write_weights(
    plan: &GgufPlan,
    computed: &dyn ComputedValues,
    matrix: Option<ImportanceMatrix>,
    options: &ExportOptions,
    output: &OutputDir,
    workers: usize,
    progress: &dyn Progress,
) -> Result<Written> {
    let Some(matrix) = matrix else {
        return execute::write_shards(&plan.output, computed, output, workers, progress);
    };
    if let Some(path) = &options.imatrix_out {
        write_imatrix(&matrix, path)?;
    }
    let (importance, warnings) = importance(&matrix, plan)?;
    let computed = WithImportance { values: computed, importance: &importance };
    let mut written = execute::write_shards(&plan.output, &computed, output, workers, progress)?;
    written.warnings.extend(warnings);
    Ok(written)
}

impl PreparedExport {
    /// Writes the file.
    ///
    /// # Errors
    /// `out` is there and may not be replaced, or something cannot be read or written.
    pub fn write(
        &self,
        sources: &dyn ReadStorage,
        storage: &Arc<dyn OutputStorage>,
        out: &Path,
        options: &ExportOptions,
        progress: &dyn Progress,
    ) -> Result<ExportReport> {
        let start = Instant::now();
        let dir = self.dir.to_string_lossy();
        let source = SourceFiles { reference: &dir, dir: &self.dir, checkpoint: &self.checkpoint, adapter: None };
        let plan = &self.plan.output;
        let publication = Publication::new(storage, out, plan, vec![source], &[])?;
        let report = |warnings, already_there| ExportReport {
            bytes: plan.layout.total_file_bytes(),
            warnings,
            elapsed: start.elapsed(),
            already_there,
        };
        let mut warnings = plan.warnings.clone();
        if publication.is_built_file(&self.plan.id) {
            return Ok(report(warnings, true));
        }
        let workers = workers_within(&plan.tensors, options.threads, options.memory)?;
        let Some(output) = publication.open_file(&self.plan.id, options.force, progress)? else {
            return Ok(report(warnings, true));
        };
        let computed: HashMap<String, Vec<f32>> = HashMap::new();
        let tokenizer = || Tokenizer::open(sources, &self.dir);
        let matrix = self
            .imatrix
            .as_ref()
            .map(|imatrix| imatrix.matrix(&self.plan, &computed, &tokenizer, None, options.memory, progress));
        let written = write_weights(&self.plan, &computed, matrix.transpose()?, options, &output, workers, progress)?;
        warnings.extend(written.warnings);
        publication.finish_file(output, progress)?;
        Ok(report(warnings, false))
    }
}
