//! Repositories: branches, commits, files.

use std::{collections::BTreeMap, sync::Arc};

use sha1::{Digest, Sha1};

/// A repository.
#[derive(Debug, Clone, Default)]
pub struct Repo {
    /// Branch -> commit.
    pub branches: BTreeMap<String, String>,
    /// Commit -> its files.
    pub commits: BTreeMap<String, BTreeMap<String, Arc<Vec<u8>>>>,
    /// Whether only those with a token see it.
    pub private: bool,
    /// Whether its files are for those who were let in.
    pub gated: bool,
    /// Its new id, where it was renamed.
    pub moved_to: Option<String>,
}

impl Repo {
    /// Adds files to what a branch holds.
    pub fn commit(&mut self, branch: &str, files: impl Iterator<Item = (String, Arc<Vec<u8>>)>) -> String {
        let parent = self.branches.get(branch).cloned().unwrap_or_default();
        let mut all = self.commits.get(&parent).cloned().unwrap_or_default();
        all.extend(files);
        let mut hasher = Sha1::new();
        hasher.update(&parent);
        for (name, bytes) in &all {
            hasher.update(name);
            hasher.update(git_hash(bytes));
        }
        let id = hex(&hasher.finalize());
        self.commits.insert(id.clone(), all);
        self.branches.insert(branch.to_owned(), id.clone());
        id
    }

    /// The commit that a revision means.
    pub fn find(&self, revision: &str) -> Option<&str> {
        let commit = self.branches.get(revision).map(String::as_str);
        commit.or_else(|| self.commits.get_key_value(revision).map(|(id, _)| id.as_str()))
    }
}

/// Whether the Hub keeps a file of this name apart from git.
pub fn is_large(name: &str, size: usize) -> bool {
    size > 10 << 20 || [".safetensors", ".bin", ".gguf", ".model", ".pt"].iter().any(|e| name.ends_with(e))
}

pub fn git_hash(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
