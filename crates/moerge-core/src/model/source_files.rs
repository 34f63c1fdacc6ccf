//! The files that a model is read from, whatever is known of its architecture: what records, cards and the checks around
//! a merge need of a source.

use std::path::Path;

use moerge_checkpoint::Checkpoint;

/// The files of one source.
#[derive(Debug, Clone)]
pub struct SourceFiles<'a> {
    /// As the recipe writes it.
    pub reference: &'a str,
    /// The model's folder.
    pub dir: &'a Path,
    /// Its tensors.
    pub checkpoint: &'a Checkpoint,
    /// The folder and the tensors of the adapter that goes onto it.
    pub adapter: Option<(&'a Path, &'a Checkpoint)>,
}

impl<'a> SourceFiles<'a> {
    /// The model's tensors, and the adapter's.
    pub fn checkpoints(&self) -> impl Iterator<Item = &'a Checkpoint> {
        std::iter::once(self.checkpoint).chain(self.adapter.map(|(_, checkpoint)| checkpoint))
    }

    /// The model's folder, and the adapter's.
    pub fn dirs(&self) -> impl Iterator<Item = &'a Path> {
        std::iter::once(self.dir).chain(self.adapter.map(|(dir, _)| dir))
    }
}
