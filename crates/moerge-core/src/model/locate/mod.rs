//! From a name in a recipe to folders on disk.
//!
//! A name is tried, in this order, as
//! 1. a path: absolute or from `~`; otherwise from the recipe's folder, then from the current folder (mergekit knows
//!    only the latter; the recipe's own folder comes first so that a recipe means the same wherever it is run);
//! 2. an id on the Hugging Face Hub, `org/name[@revision]`, in the Hub's cache.
//!
//! What is written is tried whole before it is split at `+` and `@`, so folders may have these in their names. Only
//! folders are looked at: that a model's files are there and sound is for whoever opens it to say.

mod hub_cache;
mod not_here;

use std::path::{Path, PathBuf};

use moerge_checkpoint::{Kind, ReadStorage};

pub use hub_cache::{HubCache, HubId};
pub use not_here::{NotHere, Why};

use crate::model::model_ref::ModelRef;

/// Where a model lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolders {
    /// The folder with `config.json`.
    pub model: PathBuf,
    /// The folder with `adapter_config.json`.
    pub adapter: Option<PathBuf>,
}

/// What a folder is looked for as: the file that says so in the Hub's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A model.
    Model,
    /// An adapter.
    Adapter,
}

/// A part of a reference that is no folder but a model on the Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnHub {
    /// The model.
    pub id: HubId,
    /// What it is wanted as.
    pub part: Part,
    /// Its folder in the cache, if that has been begun.
    pub snapshot: Option<PathBuf>,
}

/// The parts of `reference` that are on the Hub rather than in folders, as far as that can be told without asking it.
pub fn on_hub(storage: &dyn ReadStorage, reference: &ModelRef, recipe_dir: &Path, cache: &HubCache) -> Vec<OnHub> {
    let search = Search { storage, recipe_dir, cache };
    if reference.adapter.is_some() && search.folder(&reference.to_string()).is_ok() {
        return Vec::new();
    }
    let model = (reference.model.as_str(), reference.revision.as_deref(), Part::Model);
    let adapter = reference.adapter.iter().map(|a| (a.model.as_str(), a.revision.as_deref(), Part::Adapter));
    let parts = std::iter::once(model).chain(adapter);
    parts.filter_map(|(name, revision, part)| search.on_hub(name, revision, part)).collect()
}

/// Finds the folders of `reference`, named in a recipe in `recipe_dir`.
pub fn locate(
    storage: &dyn ReadStorage,
    reference: &ModelRef,
    recipe_dir: &Path,
    cache: &HubCache,
) -> Result<ModelFolders, NotHere> {
    let search = Search { storage, recipe_dir, cache };
    let written = reference.to_string();
    if let (true, Ok(model)) = (reference.adapter.is_some(), search.folder(&written)) {
        return Ok(ModelFolders { model, adapter: None });
    }
    let model = search.find(&reference.model, reference.revision.as_deref(), Part::Model)?;
    let adapter = match &reference.adapter {
        Some(adapter) => Some(search.find(&adapter.model, adapter.revision.as_deref(), Part::Adapter)?),
        None => None,
    };
    Ok(ModelFolders { model, adapter })
}

impl Part {
    /// The file that shows that a folder holds it.
    pub fn file(self) -> &'static str {
        match self {
            Self::Model => "config.json",
            Self::Adapter => "adapter_config.json",
        }
    }
}

fn written(name: &str, revision: Option<&str>) -> String {
    revision.map_or_else(|| name.to_owned(), |revision| format!("{name}@{revision}"))
}

struct Search<'a> {
    storage: &'a dyn ReadStorage,
    recipe_dir: &'a Path,
    cache: &'a HubCache,
}

impl Search<'_> {
    fn find(&self, name: &str, revision: Option<&str>, part: Part) -> Result<PathBuf, NotHere> {
        let written = written(name, revision);
        let mut looked = match self.folder(&written) {
            Ok(folder) => return Ok(folder),
            Err(looked) => looked,
        };
        let id = match HubId::parse(name, revision) {
            Ok(id) => id,
            Err(why) => return Err(self.missing(written, why, looked)),
        };
        match self.cache.snapshot(self.storage, &id, part.file()) {
            Ok(folder) => Ok(folder),
            Err(place) => {
                looked.push(place);
                if id.has_owner() && !self.has_folder_of_owner(name) {
                    return Err(NotHere { written, why: Why::NotDownloaded(id), looked, hints: Vec::new() });
                }
                Err(self.missing(written, None, looked))
            }
        }
    }

    fn on_hub(&self, name: &str, revision: Option<&str>, part: Part) -> Option<OnHub> {
        let id = HubId::parse(name, revision).ok()?;
        if self.folder(&written(name, revision)).is_ok() {
            return None;
        }
        let snapshot = self.cache.snapshot(self.storage, &id, part.file()).ok();
        let likely = snapshot.is_some() || (id.has_owner() && !self.has_folder_of_owner(name));
        likely.then_some(OnHub { id, part, snapshot })
    }

    /// The folder at a path, or the places where it is not.
    fn folder(&self, written: &str) -> Result<PathBuf, Vec<(PathBuf, String)>> {
        let places = self.places(written);
        if places.is_empty() {
            return Err(vec![(PathBuf::from("~"), "no home folder is known (HOME)".into())]);
        }
        let mut looked = Vec::new();
        for place in places {
            match self.storage.facts(&place) {
                Ok(facts) if facts.kind == Kind::Dir => return Ok(place),
                Ok(_) => looked.push((place, "a file, expected a model's folder".to_owned())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => looked.push((place, "no such folder".to_owned())),
                Err(e) => looked.push((place, e.to_string())),
            }
        }
        Err(looked)
    }

    fn places(&self, written: &str) -> Vec<PathBuf> {
        let home = |rest: &str| self.cache.home.as_ref().map(|home| home.join(rest.trim_start_matches(['/', '\\'])));
        if let Some(rest) = written.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with(['/', '\\'])) {
            return home(rest).into_iter().collect();
        }
        // `./a/` and `a` are the same place, and models are told apart by their folders.
        let path: PathBuf = Path::new(written).components().collect();
        let path = path.strip_prefix(".").map_or(path.clone(), Path::to_owned);
        if path.is_absolute() {
            return vec![path];
        }
        let recipe_dir = self.recipe_dir.strip_prefix(".").unwrap_or(self.recipe_dir);
        if recipe_dir.as_os_str().is_empty() { vec![path] } else { vec![recipe_dir.join(&path), path] }
    }

    /// Whether `models/llama` is more likely a path than an id, since there is a folder `models`.
    fn has_folder_of_owner(&self, name: &str) -> bool {
        let owner = name.split('/').next().unwrap_or_default();
        self.folder(owner).is_ok()
    }

    fn missing(&self, written: String, why: Option<String>, looked: Vec<(PathBuf, String)>) -> NotHere {
        let mut hints: Vec<String> = why.into_iter().collect();
        if let Some(near) = self.places(&written).iter().find_map(|place| not_here::neighbour(self.storage, place)) {
            hints.push(format!("did you mean `{}`?", Path::new(&written).with_file_name(near).display()));
        }
        if written.contains('+') {
            hints.push("one adapter a model, `model+adapter`; merge further ones into the model first".into());
        }
        if hints.is_empty() {
            let two_places = self.places("x").len() > 1;
            let from = if two_places { ", from the recipe's or the current one," } else { "" };
            hints.push(format!("give a folder{from} or an id on the Hub: `org/name`"));
        }
        NotHere { written, why: Why::Missing, looked, hints }
    }
}

#[cfg(test)]
mod tests;
