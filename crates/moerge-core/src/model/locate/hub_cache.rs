//! The cache that `hf download` and transformers fill, in huggingface_hub's layout:
//! `models--org--name/refs/<revision>` contains a commit, `snapshots/<commit>` its files.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use moerge_checkpoint::{FileKind, ReadStorage};

/// The locations of the Hub's cache and of `~`. Read from the environment once, by the command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubCache {
    /// The folder of `models--org--name` folders.
    pub folder: Option<PathBuf>,
    /// The folder for `~`.
    pub home: Option<PathBuf>,
    /// Folders of mounted models, which are read from the Hub as if they were in the cache, by id and revision.
    pub remote: BTreeMap<String, PathBuf>,
}

/// What a repository on the Hub holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoKind {
    /// A model or an adapter.
    Model,
    /// A data set.
    DataSet,
}

/// The id of a repository on the Hub. Its parts are safe file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    /// What it holds.
    pub kind: RepoKind,
    /// `org/name`, or `name` for a few old models.
    pub id: String,
    /// A branch, tag or commit; `main` by default.
    pub revision: String,
}

impl HubCache {
    /// Reads the environment of the process.
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var_os(name))
    }

    /// Reads HF_HUB_CACHE (or HUGGINGFACE_HUB_CACHE, its older name), HF_HOME and XDG_CACHE_HOME like huggingface_hub,
    /// and HOME (USERPROFILE on Windows). Empty variables count as unset.
    pub fn from_vars(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let folder = path_var(&get, "HF_HUB_CACHE").or_else(|| path_var(&get, "HUGGINGFACE_HUB_CACHE"));
        Self {
            folder: folder.or_else(|| Some(Self::hf_home(&get)?.join("hub"))),
            home: home(&get),
            remote: BTreeMap::new(),
        }
    }

    /// The folder of huggingface_hub's files on this machine: cache and token.
    pub fn hf_home(get: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        let cache = || path_var(get, "XDG_CACHE_HOME").or_else(|| Some(home(get)?.join(".cache")));
        path_var(get, "HF_HOME").or_else(|| Some(cache()?.join("huggingface")))
    }

    /// The folder of a repository, which need not exist; `None` if no cache is known.
    pub fn repository(&self, id: &HubId) -> Option<PathBuf> {
        let kind = match id.kind {
            RepoKind::Model => "models",
            RepoKind::DataSet => "datasets",
        };
        Some(self.folder.as_ref()?.join(format!("{kind}--{}", id.id.replace('/', "--"))))
    }

    /// The snapshot of a model, if it contains the file `wanted`; otherwise the path that was looked at and what is
    /// wrong with it.
    ///
    /// # Errors
    /// The model is not in the cache, or `wanted` is not in the snapshot.
    pub fn snapshot(&self, storage: &dyn ReadStorage, id: &HubId, wanted: &str) -> Result<PathBuf, (PathBuf, String)> {
        if let Some(folder) = self.remote.get(&id.to_string()) {
            return Ok(folder.clone());
        }
        let Some(repo) = self.repository(id) else {
            return Err((PathBuf::from("~/.cache/huggingface/hub"), "no home folder is known (HOME, HF_HOME)".into()));
        };
        if !is(storage, &repo, FileKind::Dir) {
            return Err((repo, "not downloaded".into()));
        }
        let commit = match is_commit(&id.revision) {
            true => id.revision.clone(),
            false => {
                let reference = repo.join("refs").join(&id.revision);
                read_commit(storage, &reference).map_err(|why| (reference, why.to_owned()))?
            }
        };
        let snapshot = repo.join("snapshots").join(commit);
        match is(storage, &snapshot.join(wanted), FileKind::File) {
            true => Ok(snapshot),
            false => Err((snapshot, format!("has no {wanted}"))),
        }
    }
}

fn home(get: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    var(get, if cfg!(windows) { "USERPROFILE" } else { "HOME" })
}

/// The value of a variable that is not empty.
fn var(get: &impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    get(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The same with a leading `~` expanded.
fn path_var(get: &impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    let path = var(get, name)?;
    match (path.strip_prefix("~"), home(get)) {
        (Ok(rest), Some(home)) => Some(home.join(rest)),
        _ => Some(path),
    }
}

/// Reads the commit from a file in `refs`.
fn read_commit(storage: &dyn ReadStorage, reference: &Path) -> Result<String, &'static str> {
    if !is(storage, reference, FileKind::File) {
        return Err("this revision is not downloaded");
    }
    let file = storage.open(reference).map_err(|_| "cannot be read")?;
    let mut bytes = vec![0; file.len().min(256) as usize];
    file.read_exact_at(&mut bytes, 0).map_err(|_| "cannot be read")?;
    let text = String::from_utf8(bytes).map_err(|_| "cannot be read")?;
    let commit = text.trim();
    if is_commit(commit) { Ok(commit.to_owned()) } else { Err("contains no commit") }
}

/// Whether there is something of this kind at `path`.
fn is(storage: &dyn ReadStorage, path: &Path, kind: FileKind) -> bool {
    storage.facts(path).is_ok_and(|facts| facts.kind == kind)
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

impl HubId {
    /// Parses an id. `Err(Some(why))` explains a mistake in what otherwise looks like an id.
    ///
    /// # Errors
    /// `name` is not an id: `Some` if it looks like one.
    pub fn parse(name: &str, revision: Option<&str>) -> Result<Self, Option<String>> {
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 || name.len() > 96 || !parts.iter().all(|part| is_name(part)) {
            return Err(None);
        }
        let revision = revision.unwrap_or("main");
        // A revision becomes a path below `refs`: `refs/pr/1` is valid, `../..` must not be.
        let safe =
            |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains("..") && part.chars().all(plain);
        if revision.len() > 255 || !revision.split('/').all(safe) {
            return Err(Some(format!("\"{}\" cannot be a revision", crate::suggest::shorten(revision))));
        }
        Ok(Self { kind: RepoKind::Model, id: name.to_owned(), revision: revision.to_owned() })
    }

    /// The branch of a data set with the Parquet files that the Hub made of it.
    ///
    /// # Errors
    /// As for [`parse`](Self::parse).
    pub fn parquet(name: &str) -> Result<Self, Option<String>> {
        Ok(Self { kind: RepoKind::DataSet, ..Self::parse(name, Some("refs/convert/parquet"))? })
    }

    /// Whether it is of the form `org/name`.
    pub fn has_owner(&self) -> bool {
        self.id.contains('/')
    }
}

/// huggingface_hub's rule for the parts of an id.
fn is_name(part: &str) -> bool {
    !part.is_empty()
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !part.contains("--")
        && !part.contains("..")
        && !part.starts_with(['-', '.'])
        && !part.ends_with(['-', '.'])
}

fn plain(c: char) -> bool {
    !c.is_control() && !matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '~' | '^' | ' ')
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        if self.revision == "main" { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}
