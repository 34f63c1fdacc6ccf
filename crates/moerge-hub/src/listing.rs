//! The files of one commit, with their sizes and hashes. The pages of a listing come from a server: their number, their
//! size and the time for all of them are bounded, and no page is asked for twice.

use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    FileHash, Hub, RemoteFile,
    http::{Failure, Request, escaped, next_page, origin, resolve},
};
use moerge_core::{
    error::Result,
    json_error::json_problem,
    model::locate::{HubId, RepoKind},
};

/// Maximum number of files and folders in a repository.
const MAX_ENTRIES: usize = 100_000;
/// Maximum number of pages of a listing. The Hub puts 1,000 files on one.
const MAX_PAGES: usize = 1_000;
/// Time for a listing: the commit of the revision, all pages, all retries.
const LISTING_TIME: Duration = Duration::from_secs(180);

/// A commit and its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The model, with the revision as the user wrote it.
    pub id: HubId,
    /// The commit of the revision: 40 hexadecimal digits.
    pub commit: String,
    /// The files at the top of the repository, since files in folders are not part of a model; all files of a data set.
    pub files: Vec<RemoteFile>,
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
    /// The commit of a revision, and its files.
    ///
    /// # Errors
    /// The Hub cannot be reached, knows no such revision, or does not let this user read it.
    pub fn list(&self, id: &HubId) -> Result<Listing> {
        self.check_online(id)?;
        self.try_list(id, Instant::now() + LISTING_TIME)
            .map_err(|failure| self.error(self.subject(id, None, "download"), failure))
    }

    fn try_list(&self, id: &HubId, deadline: Instant) -> Result<Listing, Failure> {
        let commit = self.commit_before(id, deadline)?;
        Ok(Listing { id: id.clone(), files: self.tree_before(id, &commit, deadline)?, commit })
    }

    /// The commit of a revision.
    pub(super) fn commit_of(&self, id: &HubId) -> Result<String, Failure> {
        self.commit_before(id, Instant::now() + LISTING_TIME)
    }

    fn commit_before(&self, id: &HubId, deadline: Instant) -> Result<String, Failure> {
        let url = format!("{}/revision/{}", self.api(id), escaped(&id.revision));
        let (_, bytes) = self.http.read_before(&Request::get(&url), deadline)?;
        let info: ModelInfo = parse(&bytes)?;
        let commit = info.sha.filter(|sha| is_commit(sha));
        let commit = commit.ok_or_else(|| Failure::Answer("its answer names no commit".into()))?;
        if is_commit(&id.revision) && !commit.eq_ignore_ascii_case(&id.revision) {
            return Err(Failure::Answer(format!("it answers with commit {commit} where another was asked for")));
        }
        Ok(commit)
    }

    /// The files of a commit.
    pub(super) fn tree(&self, id: &HubId, commit: &str) -> Result<Vec<RemoteFile>, Failure> {
        self.tree_before(id, commit, Instant::now() + LISTING_TIME)
    }

    fn tree_before(&self, id: &HubId, commit: &str, deadline: Instant) -> Result<Vec<RemoteFile>, Failure> {
        let mut files = Vec::new();
        let mut names = BTreeSet::new();
        let mut entries = 0;
        let mut seen = HashSet::new();
        let folders = id.kind == RepoKind::DataSet;
        let mut url = format!("{}/tree/{commit}?recursive={folders}", self.api(id));
        loop {
            if !seen.insert(url.clone()) {
                return Err(Failure::Answer("its list of files repeats a page".into()));
            }
            if seen.len() > MAX_PAGES {
                return Err(Failure::Answer(format!("its list of files has more than {MAX_PAGES} pages")));
            }
            let (headers, bytes) = self.http.read_before(&Request::get(&url), deadline)?;
            let page: Vec<TreeEntry> = parse(&bytes)?;
            entries += page.len();
            if entries > MAX_ENTRIES {
                return Err(Failure::Answer(format!("its list of files has more than {MAX_ENTRIES} entries")));
            }
            for file in
                page.into_iter().filter(|e| e.kind == "file").filter_map(|e| remote_file(e, folders).transpose())
            {
                let file = file?;
                if !names.insert(file.name.clone()) {
                    return Err(Failure::Answer(format!("its list of files has {} twice", file.name)));
                }
                files.push(file);
            }
            match next_page(&headers) {
                Some(link) => url = self.own_page(&url, &link)?,
                None => return Ok(files),
            }
        }
    }

    /// The address of the page after the one at `url`. The token goes along, so it has to be on this Hub.
    fn own_page(&self, url: &str, link: &str) -> Result<String, Failure> {
        let next = resolve(url, &self.own_address(link)).filter(|next| self.http.is_own(next));
        next.ok_or_else(|| {
            let host = origin(link).unwrap_or_else(|| "no address".into());
            Failure::Answer(format!("its list of files goes on at another host ({host})"))
        })
    }

    fn api(&self, id: &HubId) -> String {
        let kind = match id.kind {
            RepoKind::Model => "models",
            RepoKind::DataSet => "datasets",
        };
        format!("{}/api/{kind}/{}", self.settings.endpoint, id.id)
    }
}

/// Whether a string is the hash of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The file of an entry. `None` for a name that is not valid on every file system, and for a file in a folder unless
/// `folders`.
fn remote_file(entry: TreeEntry, folders: bool) -> Result<Option<RemoteFile>, Failure> {
    let is_plain = |name: &str| {
        !matches!(name, "" | "." | "..")
            && name.len() <= 255
            && !name.contains(|c: char| "/\\:*?\"<>|".contains(c) || c.is_control())
    };
    let is_listed = if folders { entry.path.split('/').all(is_plain) } else { is_plain(&entry.path) };
    if !is_listed {
        return Ok(None);
    }
    let (size, hash) = match &entry.lfs {
        Some(lfs) => (lfs.size, FileHash::lfs_hex(lfs.oid.strip_prefix("sha256:").unwrap_or(&lfs.oid))),
        None => (entry.size, FileHash::git_hex(&entry.oid)),
    };
    let hash = hash.ok_or_else(|| Failure::Answer("its list of files has a file without a hash".into()))?;
    Ok(Some(RemoteFile { name: entry.path, size, hash }))
}

/// Parses an answer.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(json)
        .map_err(|e| Failure::Answer(format!("its answer is not that of a Hub ({})", json_problem(&e))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_not_listed() {
        let entry = |path: &str| TreeEntry {
            kind: "file".into(),
            path: path.into(),
            size: 1,
            oid: "3b18e512dba79e4c8300dd08aeb37f8e728b8dad".into(),
            lfs: None,
        };
        assert!(remote_file(entry("config.json"), false).unwrap().is_some());
        assert!(remote_file(entry("main/test/0000.parquet"), true).unwrap().is_some());
        for bad in ["../x", "a/b", "..", "C:x", "a\\b", "", "a\nb"] {
            assert_eq!(remote_file(entry(bad), false).unwrap(), None, "{bad}");
            assert!(bad == "a/b" || remote_file(entry(bad), true).unwrap().is_none(), "{bad}");
        }
        assert!(remote_file(TreeEntry { oid: "../../x".into(), ..entry("x") }, false).is_err());
    }
}
