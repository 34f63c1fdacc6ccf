//! A model as a GGUF file, for llama.cpp and what is built on it.

mod facts;
mod files;
mod imatrix;
mod imatrix_file;
mod job;
mod weights;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use moerge_checkpoint::{Checkpoint, OutputStorage, ReadStorage};
use moerge_core::{
    error::Result,
    model::{
        files::TOKENIZER,
        gguf::{QuantisedSource, quantised_sources},
        source_files::SourceFiles,
    },
    plan::gguf::{FileType, GgufModel, TypeRule},
    progress::Progress,
};
use moerge_infer::tokenizer::Tokenizer;

use crate::memory::StorageMemory;

pub use facts::ModelFacts;
pub use files::{MadeFile, PlannedFile, PlannedFiles};
pub use imatrix::{Imatrix, ImatrixMemory, ImatrixSource};
pub(crate) use job::Job;

/// What the user can set.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The mixes of types, each for a file of its own; at least one.
    pub file_types: Vec<FileType>,
    /// Maximum bytes of tensors in a file; a model with more is split into several.
    pub max_bytes: Option<u64>,
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
    /// What the storages take of it.
    pub storages: StorageMemory,
}

/// Files that are ready to be written.
#[derive(Debug)]
pub struct PreparedExport {
    /// Their plans.
    pub planned: PlannedFiles,
    imatrix: Option<Imatrix>,
    dir: PathBuf,
    checkpoint: Checkpoint,
}

/// What was written.
#[derive(Debug)]
pub struct ExportReport {
    /// The files.
    pub files: Vec<MadeFile>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Plans the file `out` of the model in `dir`, or several files where several types are asked for. Reads headers and small
/// files only.
///
/// # Errors
/// The model cannot be read, or has no place in GGUF.
pub fn prepare_export(
    storage: &Arc<dyn ReadStorage>,
    dir: &Path,
    out: &Path,
    options: &ExportOptions,
) -> Result<PreparedExport> {
    let model = Arc::new(GgufModel::open(storage, dir)?);
    let facts = ModelFacts::read(storage.as_ref(), dir, model.config.vocab_size, options)?;
    let imatrix = options.imatrix.as_ref().map(Imatrix::open).transpose()?;
    let tokenizer_bytes = storage.facts(&dir.join(TOKENIZER)).map_or(0, |facts| facts.len);
    let memory = imatrix.as_ref().and_then(|i| i.memory(&model.description, tokenizer_bytes, None, options.memory));
    let mut planned = PlannedFiles::new(&model, &facts, out, options, imatrix.as_ref(), memory)?;
    let checkpoint = Checkpoint::open(storage, dir)?;
    let quantised = quantised_sources(storage.as_ref(), std::iter::once(source_files(dir, &checkpoint)));
    planned.warnings.extend(quantised.iter().map(QuantisedSource::warning));
    Ok(PreparedExport { planned, imatrix, dir: dir.to_owned(), checkpoint })
}

fn source_files<'a>(dir: &'a Path, checkpoint: &'a Checkpoint) -> SourceFiles<'a> {
    // Of a folder whose name is not Unicode, messages have the path.
    SourceFiles { reference: dir.to_str().unwrap_or_default(), dir, checkpoint, adapter: None }
}

impl PreparedExport {
    /// Writes the files.
    ///
    /// # Errors
    /// A file is there and may not be replaced, or something cannot be read or written.
    pub fn write(
        &self,
        sources: &dyn ReadStorage,
        storage: &Arc<dyn OutputStorage>,
        options: &ExportOptions,
        progress: &dyn Progress,
    ) -> Result<ExportReport> {
        let start = Instant::now();
        let files = [source_files(&self.dir, &self.checkpoint)];
        let job = Job::new(storage, &self.planned, &files, self.imatrix.as_ref(), options, options.force)?;
        let tokenizer = || Tokenizer::open(sources, &self.dir);
        let computed: HashMap<String, Vec<f32>> = HashMap::new();
        let made = job.run(progress, |open| {
            let workers = job.workers(options.threads, options.memory, options.storages)?;
            let matrix = job.matrix(open, &computed, &tokenizer, || Ok(None), progress)?;
            job.write(open, &computed, matrix.as_ref(), workers, progress)
        })?;
        Ok(ExportReport { files: made.files, warnings: made.warnings, elapsed: start.elapsed() })
    }
}
