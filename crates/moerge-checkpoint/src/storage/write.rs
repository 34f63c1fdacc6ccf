//! Writing: what an output folder asks of a file system so that a crash leaves either the old
//! state or the new one.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(doc)]
use super::Kind;
use super::read::{Facts, ReadStorage, if_any};

/// Where an output is written, and read back to check it and to resume.
pub trait OutputStorage: ReadStorage {
    /// Creates a file for writing; an existing regular file is emptied, anything else at `path`,
    /// symbolic links included, is refused.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn WriteAt>>;
    /// Metadata of `path` itself: a symbolic link is [`Kind::Link`]. `NotFound` if nothing is there.
    fn link_facts(&self, path: &Path) -> io::Result<Facts>;
    /// `path`, or where it points if it is itself a symbolic link.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;
    /// Creates a folder and those above it. One that exists is fine.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or a folder; replaces a file, never a folder that holds something.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder that holds nothing; `DirectoryNotEmpty` if it does.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes a folder and everything in it. Does not follow symbolic links.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable. Does nothing where a system has no such call.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that this user may still write to the file system that holds `path`.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// Locks the file at `path`, which is created if needed, against all other processes and
    /// callers until the [`Lock`] is dropped. `None` if another holds it. A process that dies
    /// releases its locks.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;
}

/// A file being written, by many threads at once.
pub trait WriteAt: Send + Sync {
    /// Writes all of `bytes` at byte `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file this long; new bytes are zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content and metadata durable.
    fn sync(&self) -> io::Result<()>;
    /// Asks the system to begin to write these bytes to the medium, without waiting for it and without any promise.
    fn start_writing(&self, offset: u64, len: u64);
}

/// A held lock; dropping it lets go.
pub struct Lock(#[allow(dead_code)] Box<dyn Any + Send + Sync>);

impl Lock {
    /// Wraps what releases the lock when dropped.
    pub fn new(guard: impl Any + Send + Sync) -> Lock {
        Lock(Box::new(guard))
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

/// [`OutputStorage::link_facts`], with "nothing there" as a value rather than an error.
pub(crate) fn link_facts_if_any(storage: &dyn OutputStorage, path: &Path) -> io::Result<Option<Facts>> {
    if_any(storage.link_facts(path))
}
