//! The few file operations that the rest of the crate needs, as traits. [`LocalStorage`] is the
//! machine's own file system; the simulated disk of the tests is another, which can lose what was
//! not synced and fail any operation.
//!
//! What is assumed of a medium, and no more:
//! * bytes of a file are safe from a power cut once `sync` returned;
//! * a new, renamed or removed name is safe once `sync_dir` of its folder returned;
//! * a rename is atomic, also between two folders: after a cut the thing is found at its old place
//!   or at its new one, never at both and never at neither (ext4, xfs, btrfs, zfs, APFS, NTFS);
//! * what was not synced may be there or not, in any combination.

use std::any::Any;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod local;
pub mod simulated;

pub use local::LocalStorage;

/// A file system. Paths are used as given; nothing here searches or expands them.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Opens a regular file for reading. Symbolic links are followed. Anything else, such as a
    /// folder, a pipe or a device, is refused without blocking (see [`not_regular`]).
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>>;
    /// Creates a file for writing; an existing regular file is emptied, anything else at `path`,
    /// symbolic links included, is refused.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn WriteAt>>;
    /// What is at `path`, symbolic links followed. `NotFound` if nothing is.
    fn facts(&self, path: &Path) -> io::Result<Facts>;
    /// What is at `path` itself: a symbolic link is [`Kind::Link`]. `NotFound` if nothing is.
    fn link_facts(&self, path: &Path) -> io::Result<Facts>;
    /// A hash of the file's content that the storage knows without reading it.
    fn content_hash(&self, _path: &Path) -> Option<Vec<u8>> {
        None
    }
    /// `path`, or where it points if it is itself a symbolic link.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;
    /// The names in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
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

/// An open file that many threads may read at once.
pub trait ReadAt: Send + Sync {
    /// Fills `buffer` from byte `offset` on. `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Length of the file in bytes when it was opened.
    fn len(&self) -> u64;
    /// Whether the file was empty when it was opened.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
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

/// What a file system says about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Bytes, for a file.
    pub len: u64,
    /// Time of the last change in nanoseconds since 1970, as precise as the file system keeps it;
    /// 0 where it keeps none.
    pub modified_ns: i64,
    /// File, folder, or neither.
    pub kind: Kind,
    /// Number of the file system that holds it; 0 where that is unknown.
    pub device: u64,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link; only [`Storage::link_facts`] reports it.
    Link,
    /// A device, socket or pipe. Opening one might never return.
    Other,
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

/// The error of opening something other than a regular file.
pub fn not_regular(kind: Kind) -> io::Error {
    match kind {
        Kind::Dir => io::ErrorKind::IsADirectory.into(),
        _ => io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"),
    }
}

/// [`Storage::link_facts`], with "nothing there" as a value rather than an error.
pub(crate) fn link_facts_if_any(storage: &dyn Storage, path: &Path) -> io::Result<Option<Facts>> {
    if_any(storage.link_facts(path))
}

/// [`Storage::facts`], with "nothing there" as a value rather than an error.
pub(crate) fn facts_if_any(storage: &dyn Storage, path: &Path) -> io::Result<Option<Facts>> {
    if_any(storage.facts(path))
}

fn if_any(facts: io::Result<Facts>) -> io::Result<Option<Facts>> {
    match facts {
        Ok(facts) => Ok(Some(facts)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
