//! Writing files and folders so that a crash leaves either the old or the new state.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(doc)]
use super::FileKind;
use super::read::{Facts, ReadStorage, if_any};

/// A storage of outputs, which are read back to check and to resume them.
pub trait OutputStorage: ReadStorage {
    /// Whether `path` is in an object store. There a created file appears under its name, whole and durable, when
    /// [`WriteAt::sync`] returns, and never if it is dropped before. There are no folders, renames or locks.
    fn is_flat(&self, _path: &Path) -> bool {
        false
    }
    /// Creates a file of these bytes, unless there is one already. Returns whether it was created: of several processes
    /// that try, one succeeds. Only object stores support it.
    ///
    /// # Errors
    /// The file cannot be written; `Unsupported` on a disk.
    fn create_new(&self, _path: &Path, _bytes: &[u8]) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Creates a file for writing; an existing regular file is emptied, anything else at `path`,
    /// symbolic links included, is refused.
    ///
    /// # Errors
    /// Something else is there, or the file cannot be created.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn WriteAt>>;
    /// Metadata of `path` itself: a symbolic link is [`FileKind::Link`]. `NotFound` if nothing is there.
    ///
    /// # Errors
    /// Nothing is there, or the storage cannot say.
    fn link_facts(&self, path: &Path) -> io::Result<Facts>;
    /// `path`, or where it points if it is itself a symbolic link.
    ///
    /// # Errors
    /// Nothing is there, or the link cannot be read.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;
    /// Creates a folder and those above it. One that exists is fine.
    ///
    /// # Errors
    /// A file is in the way, or a folder cannot be created.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or a folder; replaces a file, never a folder that holds something.
    ///
    /// # Errors
    /// There is nothing at `from`, a folder that holds something is at `to`, or the names are on different file
    /// systems.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// There is no such file, or it cannot be removed.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder that holds nothing; `DirectoryNotEmpty` if it does.
    ///
    /// # Errors
    /// There is no such folder, something is in it, or it cannot be removed.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes a folder and everything in it. Does not follow symbolic links.
    ///
    /// # Errors
    /// There is no such folder, or something in it cannot be removed.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable. Does nothing on systems without such a call.
    ///
    /// # Errors
    /// The folder cannot be opened, or the medium reports an error.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes available to this user on the file system of `path`.
    ///
    /// # Errors
    /// Nothing is at `path`, or the system cannot say.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// Locks the file at `path`, which is created if necessary, against other processes and callers
    /// until the [`Lock`] is dropped. `None` if it is locked already. A process that dies releases
    /// its locks.
    ///
    /// # Errors
    /// The file cannot be created or opened, or its file system has no locks.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;
    /// The same, shared: any number of holders, but none while [`lock`](OutputStorage::lock) is held, nor the reverse.
    ///
    /// # Errors
    /// As for [`lock`](OutputStorage::lock).
    fn lock_shared(&self, path: &Path) -> io::Result<Option<Lock>>;
}

/// An open file that many threads may write at once.
pub trait WriteAt: Send + Sync {
    /// Writes all of `bytes` at byte `offset`.
    ///
    /// # Errors
    /// The storage is full, or cannot be written to.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Sets the length; new bytes are zero.
    ///
    /// # Errors
    /// The storage is full, or cannot be written to.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content and metadata durable.
    ///
    /// # Errors
    /// The bytes could not be written to the medium, or uploaded.
    fn sync(&self) -> io::Result<()>;
    /// Asks the system to start writing these bytes to the medium. Does not wait and guarantees nothing.
    fn start_writing(&self, offset: u64, len: u64);
    /// Says that these bytes, which were never written, stay zero. An object store uploads a part of the file when it
    /// knows all its bytes.
    ///
    /// # Errors
    /// A part that is now complete cannot be uploaded.
    fn leave_zero(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}

/// A held lock. Dropping it releases the lock.
pub struct Lock(#[allow(dead_code)] Box<dyn Any + Send + Sync>);

impl Lock {
    /// Wraps a value that releases the lock when dropped.
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
