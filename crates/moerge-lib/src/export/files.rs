//! The GGUF files that a run makes: one for each type that is asked for, each in one part or in several.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_core::{
    error::Result,
    plan::gguf::{FileType, GgufModel, GgufOptions, GgufPlan},
};

use crate::memory::too_small;

use super::{ExportOptions, Imatrix, ImatrixMemory, ModelFacts};

/// The plans of all files that a run makes.
#[derive(Debug)]
pub struct PlannedFiles {
    /// The files, in the order in which their types were given.
    pub files: Vec<PlannedFile>,
    /// The memory of measuring the importance matrix, if it is measured.
    pub imatrix_memory: Option<ImatrixMemory>,
    /// Warnings that do not depend on the types.
    pub(super) warnings: Vec<String>,
}

/// A GGUF file that is planned.
#[derive(Debug)]
pub struct PlannedFile {
    /// Its path. Where it is split, its parts lie beside that.
    pub out: PathBuf,
    /// Its plan.
    pub plan: GgufPlan,
}

/// A GGUF file that was made.
#[derive(Debug, Clone)]
pub struct MadeFile {
    /// What readers open: the file, or its first part.
    pub path: PathBuf,
    /// The mix of types.
    pub file_type: FileType,
    /// The number of its parts.
    pub parts: usize,
    /// Bytes of all parts.
    pub bytes: u64,
    /// Whether it was there already.
    pub already_there: bool,
}

impl PlannedFiles {
    /// Plans the files of `model`. `imatrix_memory` is the memory of measuring the importance matrix.
    ///
    /// # Errors
    /// The model has no place in GGUF.
    pub(crate) fn new(
        model: &Arc<GgufModel>,
        facts: &ModelFacts,
        out: &Path,
        options: &ExportOptions,
        imatrix: Option<&Imatrix>,
        imatrix_memory: Option<ImatrixMemory>,
    ) -> Result<Self> {
        let plan = |file_type: &FileType| {
            let out = file_of(out, *file_type, &options.file_types);
            let options = GgufOptions {
                file_type: *file_type,
                rules: options.rules.clone(),
                max_bytes: options.max_bytes,
                stem: stem(&out),
                imatrix: imatrix.map(|imatrix| imatrix.facts.clone()),
            };
            let plan = GgufPlan::new(model, &facts.vocabulary, &facts.general, &options)?;
            Ok(PlannedFile { out, plan })
        };
        let files = options.file_types.iter().map(plan).collect::<Result<_>>()?;
        Ok(Self { files, imatrix_memory, warnings: facts.warnings.clone() })
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(PlannedFile::bytes).sum()
    }

    /// Checks that measuring the importance matrix fits into `budget` bytes.
    ///
    /// # Errors
    /// It does not.
    pub fn imatrix_within(&self, budget: Option<u64>) -> Result<()> {
        match (self.imatrix_memory, budget) {
            (Some(ImatrixMemory { needed, .. }), Some(budget)) if needed > budget => {
                Err(too_small("measuring the importance matrix", needed, needed, budget)
                    .hint("a matrix that was measured elsewhere needs no pass: give its file"))
            }
            _ => Ok(()),
        }
    }

    /// All warnings, each once.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        for warning in self.files.iter().flat_map(|file| &file.plan.output.warnings) {
            if !warnings.contains(warning) {
                warnings.push(warning.clone());
            }
        }
        warnings
    }
}

impl PlannedFile {
    /// The paths of its parts; its own if there is one.
    pub fn paths(&self) -> Vec<PathBuf> {
        let shards = &self.plan.output.layout.shards;
        if shards.len() == 1 {
            return vec![self.out.clone()];
        }
        shards.iter().map(|shard| self.out.with_file_name(&shard.file_name)).collect()
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.plan.output.layout.total_file_bytes()
    }

    pub(super) fn made(&self, already_there: bool) -> MadeFile {
        let mut paths = self.paths();
        MadeFile {
            parts: paths.len(),
            path: paths.swap_remove(0),
            file_type: self.plan.file_type,
            bytes: self.bytes(),
            already_there,
        }
    }
}

/// Where the file of a type is written: at `out`, with the type before the ending if there are several.
fn file_of(out: &Path, file_type: FileType, all: &[FileType]) -> PathBuf {
    match all {
        [_] => out.to_owned(),
        _ => out.with_file_name(format!("{}-{}.gguf", stem(out), file_type.name())),
    }
}

fn stem(out: &Path) -> String {
    out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_types_are_in_the_names_of_their_files() {
        let name = |all: &[FileType]| file_of(Path::new("a/moe.v1.gguf"), FileType::Q4_K_M, all);
        assert_eq!(name(&[FileType::Q4_K_M]), Path::new("a/moe.v1.gguf"));
        assert_eq!(name(&[FileType::Q8_0, FileType::Q4_K_M]), Path::new("a/moe.v1-q4_k_m.gguf"));
    }
}
