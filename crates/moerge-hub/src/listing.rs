//! What a repository holds: the files of one commit, with their sizes and what their bytes must hash to.

use std::fmt;

use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::{
    Hub,
    http::{Ask, Failure, escaped},
};
use moerge_core::{error::Result, json_error::json_problem, model::locate::HubId};

/// Most files of a repository that are listed.
const MOST_FILES: usize = 100_000;

/// A commit and its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The model; its revision as it was asked for.
    pub id: HubId,
    /// The commit that the revision is now: 40 hexadecimal digits.
    pub commit: String,
    /// Files at the top of the repository. Those in folders are not a model's.
    pub files: Vec<RemoteFile>,
}

/// A file on the Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its name; plain, so that it is safe as a name on disk.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// What its bytes must hash to.
    pub hash: FileHash,
}

/// What identifies a file's bytes on the Hub; shown as hexadecimal digits, which are its name among the cache's blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileHash {
    /// Of a file in git: SHA-1 of `blob <length>\0` and the bytes.
    Git([u8; 20]),
    /// Of a large file: SHA-256 of the bytes.
    Lfs([u8; 32]),
}

/// Computes a [`FileHash`] from bytes in order.
#[derive(Clone)]
pub(super) enum FileHasher {
    Git(Sha1),
    Lfs(Sha256),
}

impl FileHash {
    fn git(hex: &str) -> Option<Self> {
        unhex(hex).map(Self::Git)
    }

    fn lfs(hex: &str) -> Option<Self> {
        unhex(hex).map(Self::Lfs)
    }

    /// One that computes a hash of this kind, of a file of `size` bytes.
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

    /// Takes in the next bytes.
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

#[derive(Deserialize)]
struct ModelInfo {
    sha: Option<String>,
}

#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<LfsEntry>,
}

#[derive(Deserialize)]
struct LfsEntry {
    oid: String,
    size: u64,
}

impl Listing {
    /// The file of this name.
    pub fn file(&self, name: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|f| f.name == name)
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<&str> {
        self.files.iter().map(|f| f.name.as_str()).collect()
    }
}

impl Hub {
    /// Asks which commit a revision is, and what it holds.
    pub fn list(&self, id: &HubId) -> Result<Listing> {
        self.check_online(id)?;
        self.try_list(id).map_err(|failure| self.subject(id, None, "download").error(failure))
    }

    pub(super) fn try_list(&self, id: &HubId) -> Result<Listing, Failure> {
        let commit = self.commit_of(id)?;
        Ok(Listing { id: id.clone(), files: self.tree(id, &commit)?, commit })
    }

    /// The commit that a revision is now.
    pub(super) fn commit_of(&self, id: &HubId) -> Result<String, Failure> {
        let url = format!("{}/revision/{}", self.api(id), escaped(&id.revision));
        let info: ModelInfo = parse(&self.http.read(&Ask::get(&url))?)?;
        let commit = info.sha.filter(|sha| sha.len() == 40 && sha.bytes().all(|b| b.is_ascii_hexdigit()));
        commit.ok_or_else(|| Failure::Answer("it did not say which commit that is".into()))
    }

    /// The files of a commit.
    pub(super) fn tree(&self, id: &HubId, commit: &str) -> Result<Vec<RemoteFile>, Failure> {
        let mut files = Vec::new();
        let mut url = format!("{}/tree/{commit}?recursive=false", self.api(id));
        loop {
            let answer = self.http.ask(&Ask::get(&url))?;
            let next = answer.header("link").and_then(next_page).map(str::to_owned);
            let entries: Vec<TreeEntry> = parse(&answer.bytes()?)?;
            for entry in entries.into_iter().filter(|e| e.kind == "file") {
                files.extend(remote_file(entry)?);
            }
            match next {
                // Only this Hub's own pages: the token goes along.
                Some(page) if page.starts_with(&format!("{}/", self.settings.endpoint)) && files.len() < MOST_FILES => {
                    url = page;
                }
                _ => return Ok(files),
            }
        }
    }

    fn api(&self, id: &HubId) -> String {
        format!("{}/api/models/{}", self.settings.endpoint, id.id)
    }
}

/// The file of an entry; `None` for one in a folder or of a name that is not safe on every disk.
fn remote_file(entry: TreeEntry) -> Result<Option<RemoteFile>, Failure> {
    let plain = |name: &str| {
        !matches!(name, "" | "." | "..")
            && name.len() <= 255
            && !name.contains(|c: char| "/\\:*?\"<>|".contains(c) || c.is_control())
    };
    if !plain(&entry.path) {
        return Ok(None);
    }
    let (size, hash) = match &entry.lfs {
        Some(lfs) => (lfs.size, FileHash::lfs(lfs.oid.strip_prefix("sha256:").unwrap_or(&lfs.oid))),
        None => (entry.size, FileHash::git(&entry.oid)),
    };
    let hash = hash.ok_or_else(|| Failure::Answer("a file without a hash in the list of files".into()))?;
    Ok(Some(RemoteFile { name: entry.path, size, hash }))
}

pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(json)
        .map_err(|e| Failure::Answer(format!("an answer that is not a Hub's ({})", json_problem(&e))))
}

/// The address with `rel="next"` in a Link header (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|part| {
        let (address, parameters) = part.split_once('>')?;
        parameters.contains("rel=\"next\"").then(|| address.trim().strip_prefix('<')).flatten()
    })
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
        assert_eq!(FileHash::git(git), Some(hash(FileHasher::git(12))));
        assert_eq!((FileHash::git(lfs), FileHash::lfs(git), FileHash::git("+b")), (None, None, None));
    }

    #[test]
    fn names_that_leave_the_folder_are_not_listed() {
        let entry = |path: &str| TreeEntry {
            kind: "file".into(),
            path: path.into(),
            size: 1,
            oid: "3b18e512dba79e4c8300dd08aeb37f8e728b8dad".into(),
            lfs: None,
        };
        assert!(remote_file(entry("config.json")).unwrap().is_some());
        for bad in ["../x", "a/b", "..", "C:x", "a\\b", "", "a\nb"] {
            assert_eq!(remote_file(entry(bad)).unwrap(), None, "{bad}");
        }
        assert!(remote_file(TreeEntry { oid: "../../x".into(), ..entry("x") }).is_err());
    }

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(next_page("<https://h/x?cursor=1>; rel=\"next\""), Some("https://h/x?cursor=1"));
        assert_eq!(next_page("<https://h/a>; rel=\"prev\", <https://h/b>; rel=\"next\""), Some("https://h/b"));
        assert_eq!(next_page("<https://h/a>; rel=\"prev\""), None);
    }
}
