//! The folder being born. While a model is built, everything lies in a work folder beside the
//! output, `.OUT.moerge-build/`:
//!
//! ```text
//! made-by-moerge  proves that the folder is ours; written before anything below
//! lock       held by the process that builds
//! plan-id    what is being built; a run with another plan starts afresh
//! model/     the output folder to be: finished files, and unfinished ones that end in .part
//! kept/      what a resumed run needs besides: routers, fingerprints of finished shards
//! old/       the previous output folder, during the moment of replacing it
//! trash/     the previous output folder, once the new one is in place
//! ```
//!
//! One rename, `model/` to OUT, publishes the model, so OUT is complete whenever it exists. The
//! work folder is on the same file system because it is in the same folder.
//!
//! Where OUT is a single file, that file in `model/` is what is renamed. It replaces an earlier
//! OUT in the same step, so there is no `old/`.
//!
//! What a cut at any point leaves, and what the next run makes of it (`recover`):
//! * no `plan-id`: the work folder is worth nothing. It is written last when a build starts and
//!   removed first when one is given up, each time with a sync between.
//! * `plan-id` and `model/`: an unfinished build. It is resumed, or discarded if the plan differs.
//! * `plan-id` without `model/`, and OUT there: published; only the cleaning up is left. The same
//!   of a single file that is not in `model/` any more, but whose fingerprints are in `kept/`.
//! * `old/` without OUT: the cut came between the two renames. `old/` goes back to OUT first of
//!   all, whatever the plan, so the previous output is never lost and never hidden for long. (Or
//!   someone removed the new OUT before the cleaning up; then `plan-id` goes first.)
//! * `old/` beside OUT and without `model/`: published. `old/` becomes `trash/` in one rename
//!   before any of it is removed, so what stands in `old/` is always whole.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result, io_at};
use crate::file_name;
use crate::fingerprint::TensorFingerprints;
use crate::shard_layout::{Shard, ShardLayout};
use crate::storage::{Facts, Kind, Lock, OutputStorage, link_facts_if_any};

mod clean_up;
mod finished;
mod ownership;
mod publish;
mod recover;

/// The ending of a file that is still being written. One such in `model/` stops publication.
pub(crate) const PART: &str = ".part";

const LOCK: &str = "lock";
/// The marker file and its content.
const MARKER: &str = "made-by-moerge";
const MARKER_BYTES: &[u8] = b"moerge work folder\n";
const PLAN_ID: &str = "plan-id";

/// An output folder under construction. The process holds its lock for as long as this lives.
#[derive(Debug)]
pub struct OutputDir {
    storage: Arc<dyn OutputStorage>,
    out: PathBuf,
    parent: PathBuf,
    work: PathBuf,
    /// Where OUT is a single file: its name.
    file: Option<String>,
    overwrite: bool,
    published: bool,
    // Last, so that it is let go of last.
    _lock: Lock,
}

/// What [`OutputDir::open`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the build starts from zero.
    Fresh,
    /// An unfinished build of the same plan: finished shards and kept files are there.
    Resumed,
    /// An unfinished build of another plan. It was discarded; this build starts from zero.
    OtherPlanDiscarded,
    /// The same plan was already built and published completely, only the cleaning up was cut off.
    /// There is nothing to write; [`OutputDir::publish`] cleans up.
    AlreadyPublished,
}

impl OutputDir {
    /// Takes hold of the output folder `out`, and of what an earlier run left of it. `plan_id`
    /// is any text that differs for builds that differ in a single byte. With `overwrite` an
    /// existing `out` is replaced when the new one is complete, and not touched before; an empty
    /// folder is always replaced. Folders above `out` are created as needed.
    ///
    /// # Errors
    /// Another process is building `out`; `out` is a file, a mount point, or has no name; it
    /// exists, is not empty, and `overwrite` is false; or the system refuses something.
    pub fn open(
        storage: &Arc<dyn OutputStorage>,
        out: &Path,
        plan_id: &str,
        overwrite: bool,
    ) -> Result<(OutputDir, Found)> {
        recover::open(storage, out, None, plan_id, overwrite)
    }

    /// The same where `out` is a single file, the only shard of the layout, under the name that it has there. With
    /// `overwrite` an existing file is replaced when the new one is complete.
    ///
    /// # Errors
    /// Another process is building `out`; it is no regular file, has no name, or exists and `overwrite` is false; or the
    /// system refuses something.
    pub fn open_file(
        storage: &Arc<dyn OutputStorage>,
        out: &Path,
        plan_id: &str,
        overwrite: bool,
    ) -> Result<(OutputDir, Found)> {
        let name = out.file_name().ok_or_else(|| Error::OutputUnnamed { out: out.to_owned() })?;
        recover::open(storage, out, Some(name.to_string_lossy().into_owned()), plan_id, overwrite)
    }

    /// The output folder, which exists only once it is complete.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Where the files of the model are until they are published.
    pub fn model_dir(&self) -> PathBuf {
        self.work.join("model")
    }

    /// The file system that it is on.
    pub fn storage(&self) -> &Arc<dyn OutputStorage> {
        &self.storage
    }

    /// Bytes that can still be written where the output goes.
    ///
    /// # Errors
    /// The system does not say.
    pub fn free_space(&self) -> Result<u64> {
        self.storage.free_space(&self.work).map_err(io_at("ask for the free space of", &self.work))
    }

    /// For each shard the fingerprints of its tensors if an earlier run finished it, else `None`.
    /// Finished is a shard whose file has its final name, its exact length and its exact header,
    /// and whose fingerprints are kept and name its tensors.
    ///
    /// # Errors
    /// A file is there but cannot be read.
    pub fn finished_shards(&self, layout: &ShardLayout) -> Result<Vec<Option<TensorFingerprints>>> {
        layout.shards.iter().map(|shard| finished::fingerprints(self, shard)).collect()
    }

    /// Writes a file of the model, durably and all or nothing. One that exists is replaced.
    ///
    /// # Errors
    /// `name` is not a plain file name, or the file cannot be written.
    pub fn write_file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_durably(&self.model_dir(), name, bytes)
    }

    /// Keeps something for a resumed run, outside of the model; durably and all or nothing.
    ///
    /// # Errors
    /// `name` is not a plain file name, or the file cannot be written.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_durably(&self.kept_dir(), name, bytes)
    }

    /// What [`keep`](OutputDir::keep) kept under this name, in this run or in one before.
    ///
    /// # Errors
    /// `name` is not a plain file name, or the file is there but cannot be read.
    pub fn kept(&self, name: &str) -> Result<Option<Vec<u8>>> {
        check_name(name)?;
        self.read_if_any(&self.kept_dir().join(name))
    }

    /// Puts the finished model in its place and removes the work folder. On success the output is
    /// complete and durable. Paths into [`model_dir`](OutputDir::model_dir) lead nowhere afterwards,
    /// and Windows refuses to rename a folder with open files, so close what reads there before.
    ///
    /// # Errors
    /// A file is unfinished, the output path was taken meanwhile, or the system refuses something.
    /// After [`Error::Cleanup`] the output is complete and in place. After any other error it may
    /// be, too, but else the previous output, if there was one, is still there. In every case the
    /// same build can be opened again and goes on from where it is.
    pub fn publish(self) -> Result<()> {
        publish::publish(self)
    }

    /// Gives up the build and removes the work folder. The output folder is not touched.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn discard(self) -> Result<()> {
        self.remove_work()
    }

    pub(crate) fn kept_dir(&self) -> PathBuf {
        self.work.join("kept")
    }

    /// Where the fingerprints of a finished shard are kept.
    pub(crate) fn fingerprints_name(shard: &Shard) -> String {
        Self::fingerprints_of(&shard.file_name)
    }

    fn fingerprints_of(file_name: &str) -> String {
        format!("{file_name}.fingerprints.json")
    }

    fn write_durably(&self, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
        check_name(name)?;
        write_durably(&*self.storage, dir, name, bytes)
    }

    fn read_if_any(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        match self.storage.open(path) {
            Ok(file) => {
                let mut bytes = vec![0; file.len() as usize];
                file.read_exact_at(&mut bytes, 0).map_err(io_at("read", path))?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", path, error)),
        }
    }

    /// What is at `path` itself; symbolic links are not followed.
    fn facts(&self, path: &Path) -> Result<Option<Facts>> {
        link_facts_if_any(&*self.storage, path).map_err(io_at("look at", path))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        Ok(self.facts(path)?.is_some())
    }

    fn is_dir(&self, path: &Path) -> Result<bool> {
        Ok(self.facts(path)?.is_some_and(|facts| facts.kind == Kind::Dir))
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>> {
        self.storage.list(dir).map_err(io_at("list", dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.storage.rename(from, to).map_err(io_at("rename", from))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.storage.sync_dir(dir).map_err(io_at("sync", dir))
    }
}

/// Names for files of the model and kept files: plain, and not of the form of an unfinished file.
fn check_name(name: &str) -> Result<()> {
    if file_name::is_plain(name) && !name.ends_with(PART) {
        Ok(())
    } else {
        Err(Error::BadFileName { name: name.to_owned() })
    }
}

/// Writes the file `name` in `dir` so that it exists only with its whole content, and lasts.
pub fn write_durably(storage: &dyn OutputStorage, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let part = dir.join(format!("{name}{PART}"));
    let file = storage.create(&part).map_err(io_at("create", &part))?;
    file.write_all_at(bytes, 0).map_err(io_at("write", &part))?;
    file.sync().map_err(io_at("sync", &part))?;
    drop(file);
    storage.rename(&part, &path).map_err(io_at("rename", &part))?;
    storage.sync_dir(dir).map_err(io_at("sync", dir))
}
