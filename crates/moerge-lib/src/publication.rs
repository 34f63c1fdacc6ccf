//! The steps around writing weights that all merges share: checks of the output folder, resuming, free space, and the
//! final check before publication.

mod gguf_files;
mod step;

pub use step::{Step, Unfinished};

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_checkpoint::{Checkpoint, Found, OutputDir, OutputStorage, ReadStorage, ShardLayout, SourceFile, is_object};
use moerge_core::{
    error::{Cause, Error, ErrorKind, Result},
    model::{
        files::{CONFIG, read_text},
        gguf::is_gguf,
        source_files::SourceFiles,
    },
    ops::Identity,
    output::{
        files::OutputFile,
        replaceable::{not_named_by_moerge, not_written_by_moerge},
    },
    plan::OutputPlan,
    progress::{Progress, Stage},
    record::{MOERGE_JSON, MoergeJson},
};

/// Nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// An output folder with its plan and its sources.
pub(crate) struct Publication<'a> {
    pub storage: &'a Arc<dyn OutputStorage>,
    pub out: &'a Path,
    pub plan: &'a OutputPlan,
    pub sources: Vec<SourceFiles<'a>>,
    pub own_files: &'static [&'static str],
}

impl<'a> Publication<'a> {
    /// Prepares writing `plan`, made of `sources`, to the folder `out` of `storage`. `own_files` are names of files
    /// that only this kind of merge writes.
    ///
    /// # Errors
    /// The output would be in the folder of a source, or replace one: nothing is ever written to sources.
    pub fn new(
        storage: &'a Arc<dyn OutputStorage>,
        out: &'a Path,
        plan: &'a OutputPlan,
        sources: Vec<SourceFiles<'a>>,
        own_files: &'static [&'static str],
    ) -> Result<Self> {
        let publication = Self { storage, out, plan, sources, own_files };
        let places: Vec<PathBuf> = publication.places().iter().map(|place| real(place)).collect();
        if let Some(file) = publication.source_dirs().find(|dir| is_gguf(dir) && places.contains(&real(dir))) {
            let message = format!("{} is one of the models that the output is made of", file.display());
            return Err(Error::input(message).hint("choose another name; moerge never replaces what it reads"));
        }
        check_outside(out, publication.source_dirs())?;
        Ok(publication)
    }

    /// Whether the folder is the finished output of this build: it has the same id, and no source was written to since.
    /// Also cleans up after a run that was killed just after publishing.
    pub fn is_built(&self, id: &str) -> Result<bool> {
        let path = self.out.join(MOERGE_JSON);
        let finished = self.storage.facts(&self.out.join(CONFIG)).is_ok();
        if !finished || Checkpoint::open(&self.reading(), self.out).is_err() {
            return Ok(false);
        }
        let text = read_text(self.storage.as_ref(), &path).ok();
        let record = text.and_then(|t| MoergeJson::parse(&t, MOERGE_JSON).ok());
        let written = self.written_ns(&path).unwrap_or_default();
        let built = record.is_some_and(|record| record.plan_id == id)
            && self.source_files().all(|file| file.modified_ns <= written);
        // A run that was killed just after publishing left its work folder. Any other one is not ours.
        for key in [self.resume_key(id), step::shared_key(id)].iter().filter(|_| built) {
            if let Ok((output, Found::AlreadyPublished)) = OutputDir::open(self.storage, self.out, key, false) {
                output.publish()?;
            }
        }
        Ok(built)
    }

    /// Opens the work folder for `step`, possibly that of an interrupted run. `None` if the output is published already.
    ///
    /// # Errors
    /// The output exists and is something else, another process builds it, or the disk is too small.
    pub fn open(
        &self,
        id: &str,
        step: Step,
        force: bool,
        max_bytes: u64,
        progress: &dyn Progress,
    ) -> Result<Option<OutputDir>> {
        self.check_replaced(self.out)?;
        let (output, found) = self.open_for(step, id, force)?;
        match found {
            Found::AlreadyPublished => {
                output.publish()?;
                return Ok(None);
            }
            Found::OtherPlanDiscarded => progress.note(
                "the unfinished build found there belongs to another recipe, other sources or another version; \
                 starting over",
            ),
            Found::Resumed | Found::Fresh => {}
        }
        self.check_space(output, max_bytes, found == Found::Resumed || step != Step::Whole).map(Some)
    }

    /// The error of a build in `output`. The work folder is removed if the input is at fault and nothing in it could be
    /// used by a later run.
    pub fn failed(&self, output: OutputDir, error: Error) -> Error {
        if error.kind() == ErrorKind::Input && output.is_worthless().unwrap_or(false) {
            // What matters is the error that comes with it.
            let _ = output.discard();
        }
        error
    }

    /// Writes the files beside the weights, checks what was written, and publishes the folder. Returns the bytes of
    /// all files.
    ///
    /// # Errors
    /// A file cannot be written, or what was written is not what was planned.
    pub fn finish(
        &self,
        output: OutputDir,
        beside: &[OutputFile],
        check_config: impl Fn(&Path) -> Result<()>,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let mut bytes = self.plan.layout.total_file_bytes();
        for file in beside {
            output.write_file(&file.name, &file.bytes)?;
            bytes += file.bytes.len() as u64;
        }
        self.check_output(&output, check_config, progress)?;
        for source in &self.sources {
            source.checkpoint.check_unchanged()?;
        }
        // Hours may have passed: files that were put into the old output since are not ours to delete.
        if !output.is_flat() {
            self.check_replaced(output.out())?;
        }
        output.publish()?;
        Ok(bytes)
    }

    /// The bytes of all files in the published folder.
    pub fn published_bytes(&self) -> u64 {
        let names = self.storage.list(self.out).unwrap_or_default();
        names.iter().filter_map(|name| self.storage.facts(&self.out.join(name)).ok()).map(|facts| facts.len).sum()
    }

    /// An upper bound on when the file was written, in nanoseconds since 1970.
    fn written_ns(&self, file: &Path) -> io::Result<i64> {
        let written = self.storage.facts(file)?.modified_ns;
        // The times of objects have whole seconds.
        Ok(if self.storage.is_flat(file) { (written / SECOND + 1) * SECOND } else { written })
    }

    /// Where the output is: a folder, a file, or the files that a model is split into.
    fn places(&self) -> Vec<PathBuf> {
        let shards = &self.plan.layout.shards;
        if !is_gguf(self.out) || shards.len() == 1 {
            return vec![self.out.to_owned()];
        }
        shards.iter().map(|shard| self.out.with_file_name(&shard.file_name)).collect()
    }

    /// The storage for reading the output back.
    fn reading(&self) -> Arc<dyn ReadStorage> {
        self.storage.clone()
    }

    /// The key for resuming an interrupted build: the output's id, and the sources' paths and modification times on
    /// this machine, since the id does not cover all of their bytes.
    fn resume_key(&self, id: &str) -> String {
        let mut key = Identity::default();
        key.text(id);
        for file in self.source_files() {
            key.text(&file.path.to_string_lossy()).number(file.len).number(file.modified_ns as u64);
        }
        key.finish()
    }

    /// The files that weights are read from.
    fn source_files(&self) -> impl Iterator<Item = &SourceFile> {
        self.sources.iter().flat_map(SourceFiles::checkpoints).flat_map(|c| c.files()).map(|file| &**file)
    }

    /// The folders of the models and adapters that are read.
    fn source_dirs(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().flat_map(SourceFiles::dirs)
    }

    /// What `force` may replace: an earlier output, and none that the models of this one lie in.
    fn check_replaced(&self, out: &Path) -> Result<()> {
        let there = self.storage.list(out).unwrap_or_default();
        if there.is_empty() {
            return Ok(());
        }
        let refuse = |why: &str| Err(Error::input(format!("{} is not replaced: {why}", out.display())));
        if let Some(dir) = self.source_dirs().find(|dir| real(dir).starts_with(real(out))) {
            return refuse(&format!("{} lies in it", dir.display())).map_err(|e| e.hint("choose another folder"));
        }
        let storage = self.storage.as_ref();
        let begun = storage.is_flat(out) && OutputDir::unfinished(storage, out)?.is_some();
        let foreign = if begun { not_named_by_moerge } else { not_written_by_moerge };
        match foreign(storage, out, self.own_files)? {
            Some(why) => refuse(&why).map_err(|e| e.hint("choose another folder, or remove this one yourself")),
            None => Ok(()),
        }
    }

    /// Checks that there is room for what of `bytes` is not written. Else the work folder is removed, unless it is to be
    /// `kept`.
    fn check_space(&self, output: OutputDir, bytes: u64, kept: bool) -> Result<OutputDir> {
        let needed = bytes.saturating_sub(written_bytes(&self.plan.layout, &output)?);
        match refuse_full_disk(&output, needed) {
            Ok(()) => Ok(output),
            Err(error) => {
                if !kept {
                    output.discard()?;
                }
                Err(error)
            }
        }
    }

    /// Reads back headers, index and config of what was written. The weights' fingerprints were taken on their way.
    fn check_output(
        &self,
        output: &OutputDir,
        check_config: impl Fn(&Path) -> Result<()>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let dir = output.model_dir();
        let planned = &self.plan.tensors;
        progress.start(Stage::Verify, planned.len() as u64, 0);
        let written = Checkpoint::open(&self.reading(), &dir)?;
        let refuse = |what: String| {
            Error::new(ErrorKind::Io, format!("{} was not written as planned: {what}", dir.display()))
                .hint("the disk may be failing; merge again")
        };
        for tensor in planned {
            let found = written.get(&tensor.name).ok_or_else(|| refuse(format!("{} is missing", tensor.name)))?;
            if tensor.encoding != found.dtype || found.shape != tensor.shape {
                return Err(refuse(format!("{} has another dtype or shape", tensor.name))
                    .fact("planned", format!("{} {:?}", tensor.encoding.name(), tensor.shape))
                    .fact("written", format!("{} {:?}", found.dtype.name(), found.shape)));
            }
        }
        if written.len() != planned.len() {
            return Err(refuse(format!("{} tensors, {} planned", written.len(), planned.len())));
        }
        check_config(&output.unpublished(CONFIG))?;
        progress.advance(Stage::Verify, planned.len() as u64);
        progress.finish(Stage::Verify, &format!("{} tensors", planned.len()));
        Ok(())
    }
}

/// Checks that there is room for all that the layouts of these `outputs`, which are on one disk, lack.
pub(crate) fn check_space(outputs: &[(&ShardLayout, &OutputDir)]) -> Result<()> {
    let lacking = |(layout, output): &(&ShardLayout, &OutputDir)| -> Result<u64> {
        Ok(layout.total_file_bytes().saturating_sub(written_bytes(layout, output)?))
    };
    let needed = outputs.iter().map(lacking).sum::<Result<u64>>()?;
    outputs.first().map_or(Ok(()), |(_, output)| refuse_full_disk(output, needed))
}

/// Bytes of the shards that are finished.
fn written_bytes(layout: &ShardLayout, output: &OutputDir) -> Result<u64> {
    let finished = output.finished_shards(layout)?;
    let shards = finished.iter().zip(&layout.shards).filter(|(finished, _)| finished.is_some());
    Ok(shards.map(|(_, shard)| shard.file_len).sum())
}

fn refuse_full_disk(output: &OutputDir, needed: u64) -> Result<()> {
    let free = output.free_space()?;
    if free >= needed {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Io, format!("not enough room for {}", output.out().display()))
        .fact("needed", format!("{needed} bytes ({:.1} GB)", needed as f64 / 1e9))
        .fact("free", format!("{free} bytes ({:.1} GB)", free as f64 / 1e9))
        .hint("make room, or choose a folder on another disk")
        .cause(Cause::DiskFull))
}

/// Checks that `out` is in none of the folders `sources` of the models that it is made of.
///
/// # Errors
/// It is: nothing is ever written to sources.
pub(crate) fn check_outside<'a>(out: &Path, mut sources: impl Iterator<Item = &'a Path>) -> Result<()> {
    let place = real(out);
    // `out` may be a link that leads out of the folder that it is in. `.` and `..` are no names in one.
    let parent = out.file_name().and(out.parent()).map(real);
    let is_inside = |dir: &Path| {
        place != dir && place.starts_with(dir) || parent.as_ref().is_some_and(|parent| parent.starts_with(dir))
    };
    match sources.find(|dir| is_inside(&real(dir))) {
        Some(dir) => Err(Error::input(format!("{} would be inside one of its source models", out.display()))
            .fact("the model", dir.display().to_string())
            .hint("choose another folder; moerge writes nothing into the models that it reads")),
        None => Ok(()),
    }
}

/// Where `path` is, links followed; its end may not be there yet.
pub(crate) fn real(path: &Path) -> PathBuf {
    if is_object(path) {
        return path.to_owned();
    }
    let missing = |ancestor: &Path| path.strip_prefix(ancestor).map(Path::to_owned).unwrap_or_default();
    for ancestor in path.ancestors() {
        let here = if ancestor == Path::new("") { Path::new(".") } else { ancestor };
        if let Ok(found) = here.canonicalize() {
            // Joining nothing would add a slash.
            return found.join(missing(ancestor)).components().collect();
        }
    }
    path.to_owned()
}
