//! Errors of storages that know more than a kind: what the server said, and what to do.

use std::fmt;
use std::io;

/// The content of an [`io::Error`] that comes with advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageError {
    /// What was found; lower case, no full stop.
    pub message: String,
    /// One sentence of advice, without the word "hint".
    pub hint: String,
}

impl StorageError {
    /// The advice that comes with an I/O error, if one does.
    pub fn hint_of(error: &io::Error) -> Option<String> {
        error.get_ref()?.downcast_ref::<Self>().map(|own| own.hint.clone())
    }

    /// As an I/O error of this kind.
    pub fn into_io(self, kind: io::ErrorKind) -> io::Error {
        io::Error::new(kind, self)
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StorageError {}
