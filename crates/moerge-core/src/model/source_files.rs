//! The files of a source, independent of its architecture, for records, cards and checks around a merge.

use std::path::{Path, PathBuf};

use moerge_checkpoint::Checkpoint;

/// The files of one source.
#[derive(Debug, Clone)]
pub struct SourceFiles<'a> {
    /// The reference, as written in the recipe.
    pub reference: &'a str,
    /// The model's folder.
    pub dir: &'a Path,
    /// Its tensors.
    pub checkpoint: &'a Checkpoint,
    /// The folder and the tensors of its adapter.
    pub adapter: Option<(&'a Path, &'a Checkpoint)>,
}

/// The same with ownership, for a model that is made of others.
#[derive(Debug, Clone)]
pub struct OwnedSourceFiles {
    reference: String,
    dir: PathBuf,
    checkpoint: Checkpoint,
    adapter: Option<(PathBuf, Checkpoint)>,
}

impl<'a> SourceFiles<'a> {
    /// The model's tensors, and the adapter's.
    pub fn checkpoints(&self) -> impl Iterator<Item = &'a Checkpoint> + use<'a> {
        std::iter::once(self.checkpoint).chain(self.adapter.map(|(_, checkpoint)| checkpoint))
    }

    /// The model's folder, and the adapter's.
    pub fn dirs(&self) -> impl Iterator<Item = &'a Path> + use<'a> {
        std::iter::once(self.dir).chain(self.adapter.map(|(dir, _)| dir))
    }

    /// An owned copy.
    pub fn to_owned(&self) -> OwnedSourceFiles {
        OwnedSourceFiles {
            reference: self.reference.to_owned(),
            dir: self.dir.to_owned(),
            checkpoint: self.checkpoint.clone(),
            adapter: self.adapter.map(|(dir, checkpoint)| (dir.to_owned(), checkpoint.clone())),
        }
    }
}

impl OwnedSourceFiles {
    /// Borrows the files.
    pub fn files(&self) -> SourceFiles<'_> {
        SourceFiles {
            reference: &self.reference,
            dir: &self.dir,
            checkpoint: &self.checkpoint,
            adapter: self.adapter.as_ref().map(|(dir, checkpoint)| (dir.as_path(), checkpoint)),
        }
    }
}
