//! The output folder while it is built. Everything is in a work folder next to the output,
//! `.OUT.moerge-build/`:
//!
//! ```text
//! made-by-moerge  marks the folder as ours; written before anything below
//! lock       held by the process that builds
//! plan-id    identifies the plan; a run with another plan starts over
//! model/     the future output folder; unfinished files end in .part
//! kept/      other state for a resumed run: routers, fingerprints of finished shards
//! old/       the previous output folder while it is being replaced
//! trash/     the previous output folder after that
//! ```
//!
//! One rename, `model/` to OUT, publishes the model, so OUT is complete whenever it exists. The
//! work folder is on the same file system because it is in the same folder.
//!
//! Where OUT is a single file, that file in `model/` is what is renamed. It replaces an earlier
//! OUT in the same step, so there is no `old/`. Where OUT is split into several files, readers start
//! from the first: an earlier first file is removed before the others are put in their places, and
//! the new one is put there last.
//!
//! Several processes may write shards of the same plan at once: see [`OutputDir::open_part`].
//!
//! In an object store nothing can be renamed or locked, and the model is built in place: see `flat`.
//!
//! The states that a crash can leave, and what the next run does (`recover`):
//! * no `plan-id`: the work folder is discarded. `plan-id` is written last when a build starts and
//!   removed first when it is abandoned, each time with a sync in between.
//! * `plan-id` and `model/`: an unfinished build. It is resumed, or discarded if the plan differs.
//! * `plan-id` without `model/`, and OUT there: published; only the cleaning up is left. The same
//!   where OUT is a file, or several, that are not in `model/` any more, and are those that `kept/`
//!   announces: after a cut in the middle of a rename it may still be an earlier file. If only some
//!   of several files are in their places, they go back to `model/`, whatever the plan.
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
use crate::fingerprint::{Fingerprint, TensorFingerprints};
use crate::shard_layout::{Shard, ShardLayout};
use crate::storage::{Facts, FileKind, Lock, OutputStorage, link_facts_if_any};

mod clean_up;
mod finished;
mod flat;
mod ownership;
mod part;
mod publish;
mod recover;

pub(crate) use flat::Held;

/// The ending of an unfinished file. Publication fails if there is one in `model/`.
pub(crate) const PART: &str = ".part";

const LOCK: &str = "lock";
/// The marker file and its content.
const MARKER: &str = "made-by-moerge";
const MARKER_BYTES: &[u8] = b"moerge work folder\n";
const PLAN_ID: &str = "plan-id";
/// The ending of the file that keeps a finished shard's fingerprints.
const FINGERPRINTS: &str = ".fingerprints.json";
/// What files are recognised by while they are put in their places: a line per file.
const ANNOUNCED: &str = "announced";
/// How much of a file is looked at to recognise it: a header with the identity of its plan.
const RECOGNISED: u64 = 64 << 10;

/// An output folder under construction. The lock is held until this is dropped.
#[derive(Debug)]
pub struct OutputDir {
    storage: Arc<dyn OutputStorage>,
    out: PathBuf,
    parent: PathBuf,
    work: PathBuf,
    /// Where OUT is files rather than a folder: all of them, the one that readers open first.
    files: Option<Vec<PlacedFile>>,
    overwrite: bool,
    /// The ending of this process's unfinished files.
    ending: String,
    published: bool,
    /// Of an output in an object store, where `out` itself is built.
    flat: Option<flat::Flat>,
    // Last, so that it is released last. There is none in an object store.
    _lock: Option<Lock>,
}

/// A file of an output that is no folder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PlacedFile {
    /// Its name in `model/`.
    name: String,
    /// Where it is published.
    place: PathBuf,
}

/// The state that [`OutputDir::open`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No earlier build.
    Fresh,
    /// An unfinished build of the same plan, with its finished shards and kept files.
    Resumed,
    /// An unfinished build of another plan, which was discarded.
    OtherPlanDiscarded,
    /// The same plan was built and published, but the cleanup was interrupted. Nothing is left to
    /// write; [`OutputDir::publish`] cleans up.
    AlreadyPublished,
}

impl OutputDir {
    /// Locks the output folder `out` and recovers what an earlier run left. `plan_id` must differ for
    /// builds whose outputs differ. With `overwrite`, an existing `out` is replaced once the new one is
    /// complete, and not touched before; an empty folder is always replaced. Parent folders are created.
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
        if storage.is_flat(out) {
            return flat::open(storage, out, None, plan_id, overwrite, PART);
        }
        swept(recover::open(storage, out, None, plan_id, overwrite)?)
    }

    /// Opens the work folder for one of several processes, perhaps on several machines, that write shards of the plan
    /// `plan_id` at once. They may write the same shard: their unfinished files have different names, and a finished one is
    /// replaced by one of equal bytes. Unfinished files of processes that were killed stay until [`open`](OutputDir::open)
    /// publishes or resumes the build.
    ///
    /// # Errors
    /// As those of [`open`](OutputDir::open); another process holds the folder exclusively, or uses it for another plan.
    pub fn open_part(
        storage: &Arc<dyn OutputStorage>,
        out: &Path,
        plan_id: &str,
        overwrite: bool,
    ) -> Result<(OutputDir, Found)> {
        if storage.is_flat(out) {
            return flat::open(storage, out, None, plan_id, overwrite, &part::unique_ending());
        }
        part::open(storage, out, plan_id, overwrite)
    }

    /// The plan of the unfinished build of `out`, if there is one.
    ///
    /// # Errors
    /// The work folder is not ours, or cannot be read.
    pub fn unfinished(storage: &dyn OutputStorage, out: &Path) -> Result<Option<String>> {
        part::unfinished(storage, out)
    }

    /// The same where the output is the files `names` beside `out`, which are the shards of the layout. A single one is
    /// `out` itself, whatever its name in the layout. With `overwrite` existing files are replaced when the new ones
    /// are complete.
    ///
    /// # Errors
    /// Another process is building `out`; `out` has no name; a file exists and `overwrite` is false, or is no regular
    /// file; or the system refuses something.
    pub fn open_files(
        storage: &Arc<dyn OutputStorage>,
        out: &Path,
        names: &[String],
        plan_id: &str,
        overwrite: bool,
    ) -> Result<(OutputDir, Found)> {
        names.iter().try_for_each(|name| check_name(name))?;
        if storage.is_flat(out) {
            return flat::open(storage, out, Some(names), plan_id, overwrite, PART);
        }
        swept(recover::open(storage, out, Some(names), plan_id, overwrite)?)
    }

    /// The output folder, which exists only once it is complete.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// The folder of the model's files until they are published.
    pub fn model_dir(&self) -> PathBuf {
        if self.is_flat() { self.out.clone() } else { self.work.join("model") }
    }

    /// Where the file of this name is until the model is published. In an object store, a `config.json` is held back, and
    /// a GGUF file is in its place once it is there.
    pub fn unpublished(&self, name: &str) -> PathBuf {
        let placed = self.files.iter().flatten().find(|file| file.name == name);
        match placed.filter(|_| self.is_flat()) {
            Some(file) => file.place.clone(),
            None => self.dir_of(name).join(name),
        }
    }

    /// Whether the file of this name appears only when the output is published, so that nothing can be read of it before:
    /// in an object store, the GGUF file that readers start from.
    pub fn is_held(&self, name: &str) -> bool {
        self.is_flat() && self.files.iter().flatten().next().is_some_and(|first| first.name == name)
    }

    /// Whether the output is in an object store.
    pub fn is_flat(&self) -> bool {
        self.flat.is_some()
    }

    /// The storage.
    pub fn storage(&self) -> &Arc<dyn OutputStorage> {
        &self.storage
    }

    /// Free bytes on the output's file system; object stores have no limit.
    ///
    /// # Errors
    /// The system reports an error.
    pub fn free_space(&self) -> Result<u64> {
        if self.is_flat() {
            return Ok(u64::MAX);
        }
        self.storage.free_space(&self.work).map_err(io_at("ask for the free space of", &self.work))
    }

    /// For each shard, the fingerprints of its tensors if an earlier run finished it. A finished shard
    /// has its final name, exact length and exact header, and kept fingerprints that name its tensors.
    ///
    /// # Errors
    /// A file exists but cannot be read.
    pub fn finished_shards(&self, layout: &ShardLayout) -> Result<Vec<Option<TensorFingerprints>>> {
        layout.shards.iter().map(|shard| finished::fingerprints(self, shard)).collect()
    }

    /// Writes a file of the model durably and atomically. An existing one is replaced.
    ///
    /// # Errors
    /// `name` is not a plain file name, or the file cannot be written.
    pub fn write_file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_durably(&self.dir_of(name), name, bytes)
    }

    /// Who completes the file of this name, if it is held.
    pub(crate) fn holder(&self, name: &str) -> Option<Held> {
        self.flat.as_ref().filter(|_| self.is_held(name)).map(|flat| flat.held.clone())
    }

    /// Keeps a file for a resumed run, outside the model; durably and atomically.
    ///
    /// # Errors
    /// `name` is not a plain file name, or the file cannot be written.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_durably(&self.kept_dir(), name, bytes)
    }

    /// The content that [`keep`](OutputDir::keep) wrote under this name in this or an earlier run.
    ///
    /// # Errors
    /// `name` is not a plain file name, or the file exists but cannot be read.
    pub fn kept(&self, name: &str) -> Result<Option<Vec<u8>>> {
        check_name(name)?;
        self.read_if_any(&self.kept_dir().join(name))
    }

    /// Where [`keep`](OutputDir::keep) puts the file of this name.
    ///
    /// # Errors
    /// `name` is not a plain file name.
    pub fn kept_path(&self, name: &str) -> Result<PathBuf> {
        check_name(name)?;
        Ok(self.kept_dir().join(name))
    }

    /// Moves the finished model to its final place and removes the work folder. On success the output
    /// is complete and durable. Close readers of [`model_dir`](OutputDir::model_dir) before: its paths
    /// become invalid, and Windows does not rename a folder with open files.
    ///
    /// # Errors
    /// A file is unfinished, the output path was taken meanwhile, or the system reports an error. After
    /// [`Error::Cleanup`] the output is complete and in place. After any other error, either the new or
    /// the previous output is in place. The build can always be opened again and resumed.
    pub fn publish(self) -> Result<()> {
        if self.is_flat() {
            return flat::publish(self);
        }
        publish::publish(self)
    }

    /// Whether there is nothing that a resumed run, or another process, could use: no finished file and nothing kept.
    ///
    /// # Errors
    /// The work folder cannot be listed.
    pub fn is_worthless(&self) -> Result<bool> {
        if self.is_flat() && self.files.is_some() {
            // Other files lie beside its own; a finished one of those has fingerprints in `kept/`.
            return Ok(self.list(&self.kept_dir())?.is_empty());
        }
        let unfinished = self.list(&self.model_dir())?.iter().all(|n| n.as_encoded_bytes().ends_with(PART.as_bytes()));
        Ok(unfinished && !self.is_shared() && self.list(&self.kept_dir())?.is_empty())
    }

    /// Abandons the build and removes the work folder. The output folder is not touched.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn discard(self) -> Result<()> {
        if self.is_flat() {
            return flat::discard(&self);
        }
        self.remove_work()
    }

    pub(crate) fn kept_dir(&self) -> PathBuf {
        self.work.join("kept")
    }

    /// The name under which a finished shard's fingerprints are kept.
    pub(crate) fn fingerprints_name(shard: &Shard) -> String {
        format!("{}{FINGERPRINTS}", shard.file_name)
    }

    /// Whether other processes may write to the work folder at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        self.ending != PART
    }

    /// The ending of this process's unfinished files.
    pub(crate) fn ending(&self) -> &str {
        &self.ending
    }

    /// The folder of the file of this name until the model is published.
    fn dir_of(&self, name: &str) -> PathBuf {
        if self.is_flat() && flat::is_manifest(name) { self.work.join(flat::HELD_BACK) } else { self.model_dir() }
    }

    fn write_durably(&self, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
        check_name(name)?;
        write_through(&*self.storage, dir, name, &self.ending, bytes)
    }

    fn read_if_any(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        read_if_any(&*self.storage, path)
    }

    /// Metadata of `path` itself; symbolic links are not followed.
    fn facts(&self, path: &Path) -> Result<Option<Facts>> {
        link_facts_if_any(&*self.storage, path).map_err(io_at("look at", path))
    }

    /// What a file is recognised by: its length, the hash of its beginning, and its name.
    fn likeness(&self, path: &Path, name: &str) -> Result<String> {
        let file = self.storage.open(path).map_err(io_at("open", path))?;
        let mut bytes = vec![0; file.len().min(RECOGNISED) as usize];
        file.read_exact_at(&mut bytes, 0).map_err(io_at("read", path))?;
        Ok(format!("{} {} {name}", file.len(), Fingerprint::of(&bytes)))
    }

    /// The lines that announce files.
    fn announced(&self) -> Result<Vec<String>> {
        let kept = self.kept(ANNOUNCED)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&kept).lines().map(str::to_owned).collect())
    }

    /// Whether the file that is announced as `line` is in its place and not in `model/`.
    fn is_moved(&self, line: &str, file: &PlacedFile) -> Result<bool> {
        let is_file = self.facts(&file.place)?.is_some_and(|facts| facts.kind == FileKind::File);
        let moved = is_file && !self.exists(&self.model_dir().join(&file.name))?;
        Ok(moved && self.likeness(&file.place, &file.name).is_ok_and(|own| own == line))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        Ok(self.facts(path)?.is_some())
    }

    fn is_dir(&self, path: &Path) -> Result<bool> {
        Ok(self.facts(path)?.is_some_and(|facts| facts.kind == FileKind::Dir))
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

/// Checks that a file name is plain and not that of an unfinished file.
fn check_name(name: &str) -> Result<()> {
    if file_name::is_plain(name) && !name.ends_with(PART) {
        Ok(())
    } else {
        Err(Error::BadFileName { name: name.to_owned() })
    }
}

/// An output that is opened exclusively, without what earlier runs left unfinished.
fn swept((output, found): (OutputDir, Found)) -> Result<(OutputDir, Found)> {
    if found == Found::Resumed {
        output.sweep()?;
    }
    Ok((output, found))
}

fn read_if_any(storage: &dyn OutputStorage, path: &Path) -> Result<Option<Vec<u8>>> {
    match storage.open(path) {
        Ok(file) => {
            let mut bytes = vec![0; file.len() as usize];
            file.read_exact_at(&mut bytes, 0).map_err(io_at("read", path))?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", path, error)),
    }
}

/// Writes the file `name` in `dir` durably and atomically.
///
/// # Errors
/// Something cannot be written, or the storage is full.
pub fn write_durably(storage: &dyn OutputStorage, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    write_through(storage, dir, name, PART, bytes)
}

/// The same through an unfinished file with this ending.
pub(crate) fn write_through(
    storage: &dyn OutputStorage,
    dir: &Path,
    name: &str,
    ending: &str,
    bytes: &[u8],
) -> Result<()> {
    let path = dir.join(name);
    if storage.is_flat(dir) {
        let file = storage.create(&path).map_err(io_at("create", &path))?;
        file.write_all_at(bytes, 0).map_err(io_at("write", &path))?;
        return file.sync().map_err(io_at("write", &path));
    }
    let part = dir.join(format!("{name}{ending}"));
    let file = storage.create(&part).map_err(io_at("create", &part))?;
    file.write_all_at(bytes, 0).map_err(io_at("write", &part))?;
    file.sync().map_err(io_at("sync", &part))?;
    drop(file);
    storage.rename(&part, &path).map_err(io_at("rename", &part))?;
    storage.sync_dir(dir).map_err(io_at("sync", dir))
}
