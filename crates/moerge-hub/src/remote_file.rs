//! A file of a repository: its name, its size, and the hash that its bytes must have.

use std::fmt;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A file on the Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its name: one component, valid on every file system.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// The hash of its bytes.
    pub hash: FileHash,
}

/// The hash that identifies a file's bytes on the Hub. Displayed as hexadecimal digits, its name among the cache's blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileHash {
    /// A file in git: SHA-1 of `blob <length>\0` and the bytes.
    Git([u8; 20]),
    /// A large file: SHA-256 of the bytes.
    Lfs([u8; 32]),
}

/// Computes a [`FileHash`] from bytes in order.
#[derive(Clone)]
pub(super) enum FileHasher {
    Git(Sha1),
    Lfs(Sha256),
}

impl FileHash {
    /// The hash in git, from 40 hexadecimal digits.
    pub(super) fn git_hex(hex: &str) -> Option<Self> {
        unhex(hex).map(Self::Git)
    }

    /// The hash of a large file, from 64 hexadecimal digits.
    pub(super) fn lfs_hex(hex: &str) -> Option<Self> {
        unhex(hex).map(Self::Lfs)
    }

    /// A hasher of this kind for a file of `size` bytes.
    pub(super) fn hasher(&self, size: u64) -> FileHasher {
        match self {
            Self::Git(_) => FileHasher::git(size),
            Self::Lfs(_) => FileHasher::lfs(),
        }
    }
}

impl FileHasher {
    /// For a file in git.
    pub fn git(size: u64) -> Self {
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {size}\0"));
        Self::Git(hasher)
    }

    /// For a large file.
    pub fn lfs() -> Self {
        Self::Lfs(Sha256::new())
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Git(hasher) => hasher.update(bytes),
            Self::Lfs(hasher) => hasher.update(bytes),
        }
    }

    /// The hash of all bytes so far.
    pub fn finish(self) -> FileHash {
        match self {
            Self::Git(hasher) => FileHash::Git(hasher.finalize().into()),
            Self::Lfs(hasher) => FileHash::Lfs(hasher.finalize().into()),
        }
    }
}

impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Git(bytes) => bytes,
            Self::Lfs(bytes) => bytes,
        };
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn unhex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if hex.len() != 2 * N || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_lfs() {
        let hash = |mut hasher: FileHasher| {
            hasher.update(b"hello ");
            hasher.update(b"world\n");
            hasher.finish()
        };
        // `printf 'hello world\n' | git hash-object --stdin`, and sha256sum of the same.
        let git = "3b18e512dba79e4c8300dd08aeb37f8e728b8dad";
        let lfs = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447";
        assert_eq!(hash(FileHasher::git(12)).to_string(), git);
        assert_eq!(hash(FileHasher::lfs()).to_string(), lfs);
        assert_eq!(FileHash::git_hex(git), Some(hash(FileHasher::git(12))));
        assert_eq!((FileHash::git_hex(lfs), FileHash::lfs_hex(git), FileHash::git_hex("+b")), (None, None, None));
    }
}
