//! The steps where the output is a GGUF file, or several that a model is split into.

use std::path::{Path, PathBuf};

use moerge_checkpoint::{
    Found, OutputDir, Shard,
    gguf::{GgufFile, Value},
};
use moerge_core::{
    error::{Error, ErrorKind, Result},
    plan::gguf::PLAN_ID_KEY,
    progress::{Progress, Stage},
};

use super::Publication;

impl Publication<'_> {
    /// Whether the files are the finished output of the plan with this id, and no source was written to since. Also cleans
    /// up after a run that was killed just after publishing.
    pub fn is_built_files(&self, id: &str) -> Result<bool> {
        let built = self.has_built_files(id);
        if built && self.storage.is_flat(self.out) {
            let unfinished = OutputDir::unfinished(self.storage.as_ref(), self.out)?;
            if unfinished.is_some_and(|key| key == self.resume_key(id)) {
                self.work(id, true)?.0.publish()?;
            }
        } else if built && let Ok((output, Found::AlreadyPublished)) = self.work(id, false) {
            output.publish()?;
        }
        Ok(built)
    }

    fn has_built_files(&self, id: &str) -> bool {
        let places = self.places();
        let mut parts = places.iter().zip(&self.plan.layout.shards);
        parts.all(|(place, planned)| {
            let Ok(file) = GgufFile::open(&*self.reading(), place) else { return false };
            let Ok(written) = self.written_ns(place) else { return false };
            file.get(PLAN_ID_KEY).and_then(Value::as_str) == Some(id)
                && file.len == planned.file_len
                && self.source_files().all(|source| source.modified_ns <= written)
        })
    }

    /// Opens the work folder, or the one that an interrupted run left. `None` where the files are published already.
    pub fn open_files(&self, id: &str, force: bool, progress: &dyn Progress) -> Result<Option<OutputDir>> {
        self.check_replaced_files()?;
        let (output, found) = self.work(id, force)?;
        match found {
            Found::AlreadyPublished => {
                output.publish()?;
                return Ok(None);
            }
            Found::OtherPlanDiscarded => {
                progress.note("starting over: the unfinished build found there was another one")
            }
            Found::Resumed | Found::Fresh => {}
        }
        Ok(Some(output))
    }

    fn work(&self, id: &str, force: bool) -> Result<(OutputDir, Found)> {
        let names: Vec<String> = self.plan.layout.shards.iter().map(|shard| shard.file_name.clone()).collect();
        Ok(OutputDir::open_files(self.storage, self.out, &names, &self.resume_key(id), force)?)
    }

    /// Reads the headers back, which counts in [`Stage::Verify`], and publishes the files.
    pub fn finish_files(&self, output: OutputDir, progress: &dyn Progress) -> Result<()> {
        let shards = self.plan.layout.shards.iter().map(|shard| (shard, output.unpublished(&shard.file_name)));
        let (held, others): (Vec<_>, Vec<_>) = shards.partition(|(shard, _)| output.is_held(&shard.file_name));
        for (planned, path) in &others {
            self.check_header(planned, path, progress)?;
        }
        for source in &self.sources {
            source.checkpoint.check_unchanged()?;
        }
        self.check_replaced_files()?;
        output.publish()?;
        held.iter().try_for_each(|(planned, path)| self.check_header(planned, path, progress))
    }

    fn check_header(&self, planned: &Shard, path: &Path, progress: &dyn Progress) -> Result<()> {
        let written = GgufFile::open(&*self.reading(), path)?;
        let same = written
            .tensors
            .iter()
            .map(|tensor| (&tensor.name, tensor.offset, tensor.len))
            .eq(planned.tensors.iter().map(|tensor| (&tensor.spec.name, tensor.offset, tensor.len)));
        if !same || written.len != planned.file_len {
            let message = format!("{} was not written as planned", path.display());
            return Err(Error::new(ErrorKind::Io, message).hint("the disk may be failing; run the command again"));
        }
        progress.advance(Stage::Verify, planned.tensors.len() as u64);
        Ok(())
    }

    /// What `force` may replace: files that moerge made.
    fn check_replaced_files(&self) -> Result<()> {
        let is_ours =
            |place: &PathBuf| GgufFile::open(&*self.reading(), place).is_ok_and(|file| file.get(PLAN_ID_KEY).is_some());
        let places = self.places();
        match places.iter().find(|place| self.storage.facts(place).is_ok() && !is_ours(place)) {
            None => Ok(()),
            Some(place) => {
                let message = format!("{} is not replaced: moerge did not make it", place.display());
                Err(Error::input(message).hint("choose another name, or remove the file yourself"))
            }
        }
    }
}
