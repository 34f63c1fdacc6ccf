//! Writing the GGUF files of a run in one pass over the weights. Each file has its own plan and is published on its own,
//! so it does not depend on the others.

use std::sync::Arc;

use moerge_checkpoint::{OutputDir, OutputStorage};
use moerge_core::{
    error::{Error, Result},
    execute::{Target, write_together},
    model::source_files::SourceFiles,
    ops::ComputedValues,
    plan::gguf::{ImportanceMatrix, WithImportance},
    progress::{Progress, Stage},
};

use moerge_infer::tokenizer::Tokenizer;

use super::{
    ExportOptions, Imatrix,
    files::{MadeFile, PlannedFile, PlannedFiles},
    imatrix::importance,
    imatrix_file::ImatrixFile,
};
use crate::{
    memory::{StorageMemory, workers_within},
    publication::{self, Publication},
};

/// The name under which a measured importance matrix is kept.
const KEPT_MATRIX: &str = "imatrix.gguf";

/// The files of a run, and where the importance matrix is written.
pub(crate) struct Job<'a> {
    planned: &'a PlannedFiles,
    publications: Vec<Publication<'a>>,
    imatrix: Option<&'a Imatrix>,
    imatrix_file: Option<ImatrixFile<'a>>,
    force: bool,
}

/// What came of a job.
pub(crate) struct Made {
    pub files: Vec<MadeFile>,
    pub warnings: Vec<String>,
}

/// A file that is being written.
pub(crate) struct OpenFile<'a> {
    number: usize,
    file: &'a PlannedFile,
    /// Its work folder.
    pub output: OutputDir,
}

impl<'a> Job<'a> {
    /// The job of writing the `planned` files, made of `sources`.
    ///
    /// # Errors
    /// A file would replace a source, or one that moerge did not make.
    pub fn new(
        storage: &'a Arc<dyn OutputStorage>,
        planned: &'a PlannedFiles,
        sources: &[SourceFiles<'a>],
        imatrix: Option<&'a Imatrix>,
        options: &'a ExportOptions,
        force: bool,
    ) -> Result<Self> {
        let publication =
            |file: &'a PlannedFile| Publication::new(storage, &file.out, &file.plan.output, sources.to_vec(), &[]);
        let publications = planned.files.iter().map(publication).collect::<Result<Vec<_>>>()?;
        let imatrix_file = match (&options.imatrix_out, imatrix) {
            (Some(path), Some(imatrix)) => Some(ImatrixFile::new(storage, path, planned, imatrix, force)?),
            _ => None,
        };
        Ok(Self { planned, publications, imatrix, imatrix_file, force })
    }

    /// How many workers write.
    ///
    /// # Errors
    /// A worker, or the pass that measures the importance matrix, needs more than `budget`.
    pub fn workers(&self, threads: Option<usize>, budget: Option<u64>, storages: StorageMemory) -> Result<usize> {
        self.planned.imatrix_within(budget)?;
        let tensors = self.planned.files.first().map_or(&[][..], |file| &file.plan.output.tensors);
        workers_within(tensors, threads, budget, storages)
    }

    /// Makes the files that are not there: `write` makes what they need besides the sources, and writes their weights. Of
    /// several work folders, the last is published last. Returns warnings of the plans and of `write`.
    ///
    /// # Errors
    /// A file may not be replaced, another process makes it, the disk is too small for all of them, a file was not written
    /// as planned, or those of `write`.
    pub fn run(
        &self,
        progress: &dyn Progress,
        write: impl FnOnce(&[OpenFile<'a>]) -> Result<Vec<String>>,
    ) -> Result<Made> {
        let mut warnings = self.planned.warnings();
        let open = self.open(progress)?;
        let numbers: Vec<usize> = open.iter().map(|open| open.number).collect();
        if open.is_empty() {
            let file = self.imatrix_file.as_ref().filter(|file| !file.is_there());
            warnings.extend(file.map(|file| file.not_written(self.planned)));
        } else {
            match write(&open) {
                Ok(own) => warnings.extend(own),
                Err(error) => return Err(discard_worthless(open, error)),
            }
        }
        self.finish(open, progress)?;
        let files = self.planned.files.iter().enumerate();
        let files = files.map(|(number, file)| file.made(!numbers.contains(&number))).collect();
        Ok(Made { files, warnings })
    }

    /// The importance matrix of the files, if they have one, for a model whose routers are `computed`. `own` is the text
    /// of its experts, if there is any. What was measured is kept in the work folder that is published last.
    ///
    /// # Errors
    /// Weights cannot be read, the matrix cannot be written, or the run was stopped.
    pub fn matrix(
        &self,
        open: &[OpenFile<'_>],
        computed: &dyn ComputedValues,
        tokenizer: &dyn Fn() -> Result<Tokenizer>,
        own: impl FnOnce() -> Result<Option<Vec<Vec<u32>>>>,
        progress: &dyn Progress,
    ) -> Result<Option<ImportanceMatrix>> {
        let (Some(imatrix), Some(OpenFile { file, output, .. })) = (self.imatrix, open.last()) else { return Ok(None) };
        let memory = self.planned.imatrix_memory;
        let matrix = match kept_matrix(output)? {
            Some(kept) => kept,
            None => {
                let matrix = imatrix.matrix(&file.plan.model, computed, tokenizer, own()?, memory, progress)?;
                if memory.is_some() {
                    output.keep(KEPT_MATRIX, &matrix.to_bytes(&file.plan.id)?)?;
                }
                matrix
            }
        };
        if let Some(file) = &self.imatrix_file {
            file.write(&matrix)?;
        }
        Ok(Some(matrix))
    }

    /// Writes the weights, by their importance if there is a matrix of it. Returns warnings.
    ///
    /// # Errors
    /// The matrix is of another model, or something cannot be read or written.
    pub fn write(
        &self,
        open: &[OpenFile<'_>],
        computed: &dyn ComputedValues,
        matrix: Option<&ImportanceMatrix>,
        workers: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<String>> {
        let target = |open| {
            let OpenFile { file, output, .. }: &OpenFile<'_> = open;
            Target { plan: &file.plan.output, output }
        };
        let targets: Vec<Target<'_>> = open.iter().map(target).collect();
        let Some(matrix) = matrix else { return write_together(&targets, computed, workers, progress) };
        let (importance, mut warnings) = importance(matrix, targets.iter().map(|target| target.plan))?;
        let computed = WithImportance { values: computed, importance: &importance };
        warnings.extend(write_together(&targets, &computed, workers, progress)?);
        Ok(warnings)
    }

    /// Checks and publishes the files.
    fn finish(&self, open: Vec<OpenFile<'_>>, progress: &dyn Progress) -> Result<()> {
        let tensors: usize = open.iter().map(|open| open.file.plan.output.tensors.len()).sum();
        if open.is_empty() {
            return Ok(());
        }
        progress.start(Stage::Verify, tensors as u64, 0);
        for OpenFile { number, output, .. } in open {
            self.publications[number].finish_files(output, progress)?;
        }
        progress.finish(Stage::Verify, &format!("{tensors} tensors"));
        Ok(())
    }

    /// Opens the work folders of the files that are not there.
    fn open(&self, progress: &dyn Progress) -> Result<Vec<OpenFile<'a>>> {
        let mut open = Vec::new();
        for (number, (file, publication)) in self.planned.files.iter().zip(&self.publications).enumerate() {
            if publication.is_built_files(&file.plan.id)? {
                continue;
            }
            match publication.open_files(&file.plan.id, self.force, progress) {
                Ok(output) => open.extend(output.map(|output| OpenFile { number, file, output })),
                Err(error) => return Err(discard_worthless(open, error)),
            }
        }
        let outputs: Vec<_> = open.iter().map(|open| (&open.file.plan.output.layout, &open.output)).collect();
        match publication::check_space(&outputs) {
            Ok(()) => Ok(open),
            Err(error) => Err(discard_worthless(open, error)),
        }
    }
}

/// The matrix that an interrupted run measured for the same plan.
fn kept_matrix(output: &OutputDir) -> Result<Option<ImportanceMatrix>> {
    let path = output.kept_path(KEPT_MATRIX)?;
    Ok(match output.storage().facts(&path) {
        Ok(_) => ImportanceMatrix::open(output.storage().as_ref(), &path).ok().map(|(matrix, _)| matrix),
        Err(_) => None,
    })
}

/// Removes work folders in which nothing could be used by a later run.
fn discard_worthless(open: Vec<OpenFile<'_>>, error: Error) -> Error {
    for OpenFile { output, .. } in open {
        if output.is_worthless().unwrap_or(false) {
            // What matters is the error that comes with it.
            let _ = output.discard();
        }
    }
    error
}
