//! Reading files, for example from a disk or from the Hub.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A storage of models. Paths are used as given; nothing here searches or expands them.
pub trait ReadStorage: Send + Sync + fmt::Debug {
    /// Opens a regular file for reading. Symbolic links are followed. Anything else, such as a
    /// folder, a pipe or a device, is refused without blocking (see [`not_regular`]).
    ///
    /// # Errors
    /// Nothing is there, it is not a regular file, or it cannot be read.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>>;
    /// Metadata of `path`, symbolic links followed. `NotFound` if nothing is there.
    ///
    /// # Errors
    /// Nothing is there, or the storage cannot say.
    fn facts(&self, path: &Path) -> io::Result<Facts>;
    /// A hash of the file's content that the storage knows without reading it.
    fn content_hash(&self, _path: &Path) -> Option<Vec<u8>> {
        None
    }
    /// The names in a folder, sorted.
    ///
    /// # Errors
    /// It is not a folder, or cannot be read.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
}

/// An open file that many threads may read at once.
pub trait ReadAt: Send + Sync {
    /// Fills `buffer` from byte `offset` on. `UnexpectedEof` if the file is too short.
    ///
    /// # Errors
    /// The file is too short, or cannot be read.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Fills every buffer from the byte beside it on. Where each read is a request to a server, they are made at once.
    ///
    /// # Errors
    /// As for [`read_exact_at`](Self::read_exact_at).
    fn read_each_at(&self, pieces: &mut [(u64, Vec<u8>)]) -> io::Result<()> {
        pieces.iter_mut().try_for_each(|(offset, buffer)| self.read_exact_at(buffer, *offset))
    }
    /// Length of the file in bytes when it was opened.
    fn len(&self) -> u64;
    /// Whether the file was empty when it was opened.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Metadata of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The length of a file in bytes.
    pub len: u64,
    /// Modification time in nanoseconds since 1970, as precise as the file system stores it; 0 if it
    /// stores none.
    pub modified_ns: i64,
    /// File, folder or other.
    pub kind: FileKind,
    /// Id of its file system; 0 if unknown.
    pub device: u64,
}

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link; only [`OutputStorage::link_facts`](super::OutputStorage::link_facts) reports it.
    Link,
    /// A device, socket or pipe. Opening one might never return.
    Other,
}

/// The error of opening something other than a regular file.
pub fn not_regular(kind: FileKind) -> io::Error {
    match kind {
        FileKind::Dir => io::ErrorKind::IsADirectory.into(),
        _ => io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"),
    }
}

/// [`ReadStorage::facts`], with "nothing there" as a value rather than an error.
pub(crate) fn facts_if_any(storage: &dyn ReadStorage, path: &Path) -> io::Result<Option<Facts>> {
    if_any(storage.facts(path))
}

pub(super) fn if_any(facts: io::Result<Facts>) -> io::Result<Option<Facts>> {
    match facts {
        Ok(facts) => Ok(Some(facts)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
