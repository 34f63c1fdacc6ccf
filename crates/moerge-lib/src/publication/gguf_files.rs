//! The steps where the output is a single GGUF file.

use moerge_checkpoint::{
    Found, OutputDir,
    gguf::{GgufFile, Value},
};
use moerge_core::{
    error::{Error, ErrorKind, Result},
    plan::gguf::PLAN_ID_KEY,
    progress::{Progress, Stage},
};

use super::Publication;

impl Publication<'_> {
    /// Whether the file is the finished output of the plan with this id, and no source was written to since.
    pub fn is_built_file(&self, id: &str) -> bool {
        let Ok(file) = GgufFile::open(&*self.reading(), self.out) else { return false };
        let Ok(facts) = self.storage.facts(self.out) else { return false };
        file.get(PLAN_ID_KEY).and_then(Value::as_str) == Some(id)
            && file.len == self.plan.layout.total_file_bytes()
            && self.source_files().all(|source| source.modified_ns <= facts.modified_ns)
    }

    /// Opens the work folder, or the one that an interrupted run left. `None` where the file is published already.
    pub fn open_file(&self, id: &str, force: bool, progress: &dyn Progress) -> Result<Option<OutputDir>> {
        self.check_replaced_file()?;
        let (output, found) = OutputDir::open_file(self.storage, self.out, &self.resume_key(id), force)?;
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
        self.check_space(output, self.plan.layout.total_file_bytes(), found).map(Some)
    }

    /// Reads the header back, and publishes the file. Returns its bytes.
    pub fn finish_file(&self, output: OutputDir, progress: &dyn Progress) -> Result<u64> {
        let planned = &self.plan.layout.shards[0];
        let path = output.model_dir().join(&planned.file_name);
        progress.start(Stage::Verify, planned.tensors.len() as u64, 0);
        let written = GgufFile::open(&*self.reading(), &path)?;
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
        progress.finish(Stage::Verify, &format!("{} tensors", planned.tensors.len()));
        for source in &self.sources {
            source.checkpoint.check_unchanged()?;
        }
        self.check_replaced_file()?;
        output.publish()?;
        Ok(planned.file_len)
    }

    /// What `force` may replace: a file that moerge made.
    fn check_replaced_file(&self) -> Result<()> {
        if self.storage.facts(self.out).is_err() {
            return Ok(());
        }
        let ours = GgufFile::open(&*self.reading(), self.out).is_ok_and(|file| file.get(PLAN_ID_KEY).is_some());
        if ours {
            return Ok(());
        }
        let message = format!("{} is not replaced: moerge did not make it", self.out.display());
        Err(Error::input(message).hint("choose another name, or remove the file yourself"))
    }
}
