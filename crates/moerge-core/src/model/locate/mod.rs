//! Finds the folders of the models that a recipe names.
//!
//! A URL of an object store, `s3://bucket/model`, is only that. Any other name is tried, in this order, as
//! 1. a path: absolute or from `~`; otherwise relative to the recipe's folder, then to the current folder (mergekit uses
//!    only the latter; with the recipe's folder first, a recipe means the same wherever it is run);
//! 2. an id on the Hugging Face Hub, `org/name[@revision]`, in the Hub's cache.
//!
//! A name is tried as a whole before it is split at `+` and `@`, so folder names may contain them. Only folders are
//! looked for; opening a model checks its files.

mod hub_cache;
mod model_not_found;

use std::path::{Path, PathBuf};

use moerge_checkpoint::{FileKind, ReadStorage, StorageError, is_object};

pub use hub_cache::{HubCache, HubId, RepoKind};
pub use model_not_found::{ModelNotFound, Why};

use crate::model::{
    files::{ADAPTER_CONFIG, CONFIG},
    model_ref::{Adapter, ModelRef},
};

/// The folders of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolders {
    /// The folder with `config.json`.
    pub model: PathBuf,
    /// The folder with `adapter_config.json`.
    pub adapter: Option<PathBuf>,
}

/// The part of a model reference that a folder is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelPart {
    /// A model.
    Model,
    /// An adapter.
    Adapter,
}

/// A part of a reference that is on the Hub rather than in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnHub {
    /// The id.
    pub id: HubId,
    /// Model or adapter.
    pub part: ModelPart,
    /// Its folder in the cache, possibly incomplete.
    pub snapshot: Option<PathBuf>,
}

/// The parts of `reference` that are on the Hub rather than in folders, as far as is known without contacting it.
pub fn on_hub(storage: &dyn ReadStorage, reference: &ModelRef, recipe_dir: &Path, cache: &HubCache) -> Vec<OnHub> {
    let search = Search { storage, recipe_dir, cache };
    if reference.adapter.is_some() && search.folder(&reference.to_string()).is_ok() {
        return Vec::new();
    }
    let model = (reference.model.as_str(), reference.revision.as_deref(), ModelPart::Model);
    let adapter = reference.adapter.iter().map(|a| (a.model.as_str(), a.revision.as_deref(), ModelPart::Adapter));
    let parts = std::iter::once(model).chain(adapter);
    parts.filter_map(|(name, revision, part)| search.on_hub(name, revision, part)).collect()
}

/// Finds the folders of `reference` in a recipe in `recipe_dir`.
///
/// # Errors
/// The model or its adapter is in none of the places where it could be.
pub fn locate(
    storage: &dyn ReadStorage,
    reference: &ModelRef,
    recipe_dir: &Path,
    cache: &HubCache,
) -> Result<ModelFolders, ModelNotFound> {
    let search = Search { storage, recipe_dir, cache };
    let written = reference.to_string();
    if let (true, Ok(model)) = (reference.adapter.is_some(), search.folder(&written)) {
        return Ok(ModelFolders { model, adapter: None });
    }
    let model = search.find(&reference.model, reference.revision.as_deref(), ModelPart::Model)?;
    let adapter = match &reference.adapter {
        Some(adapter) => Some(search.find(&adapter.model, adapter.revision.as_deref(), ModelPart::Adapter)?),
        None => None,
    };
    Ok(ModelFolders { model, adapter })
}

/// Finds the folder of an adapter.
///
/// # Errors
/// It is in none of the places where it could be.
pub fn locate_adapter(
    storage: &dyn ReadStorage,
    adapter: &Adapter,
    recipe_dir: &Path,
    cache: &HubCache,
) -> Result<PathBuf, ModelNotFound> {
    Search { storage, recipe_dir, cache }.find(&adapter.model, adapter.revision.as_deref(), ModelPart::Adapter)
}

impl ModelPart {
    /// The file that identifies a folder of this part.
    pub fn file(self) -> &'static str {
        match self {
            Self::Model => CONFIG,
            Self::Adapter => ADAPTER_CONFIG,
        }
    }
}

fn written(name: &str, revision: Option<&str>) -> String {
    revision.map_or_else(|| name.to_owned(), |revision| format!("{name}@{revision}"))
}

/// Where a folder was not found, each place with what is there, and what to do about it.
#[derive(Default)]
struct Looked {
    places: Vec<(PathBuf, String)>,
    hint: Option<String>,
}

struct Search<'a> {
    storage: &'a dyn ReadStorage,
    recipe_dir: &'a Path,
    cache: &'a HubCache,
}

impl Search<'_> {
    fn find(&self, name: &str, revision: Option<&str>, part: ModelPart) -> Result<PathBuf, ModelNotFound> {
        let written = written(name, revision);
        let mut looked = match self.folder(&written) {
            Ok(folder) => return Ok(folder),
            Err(looked) => looked,
        };
        if is_object(Path::new(&written)) {
            let hint = looked.hint.take();
            return Err(self.missing(written, hint, looked.places));
        }
        let id = match HubId::parse(name, revision) {
            Ok(id) => id,
            Err(why) => return Err(self.missing(written, why, looked.places)),
        };
        match self.cache.snapshot(self.storage, &id, part.file()) {
            Ok(folder) => Ok(folder),
            Err(place) => {
                looked.places.push(place);
                if id.has_owner() && !self.has_folder_of_owner(name) {
                    return Err(ModelNotFound {
                        written,
                        why: Why::NotDownloaded(Box::new(id)),
                        looked: looked.places,
                        hints: Vec::new(),
                    });
                }
                Err(self.missing(written, None, looked.places))
            }
        }
    }

    fn on_hub(&self, name: &str, revision: Option<&str>, part: ModelPart) -> Option<OnHub> {
        let id = HubId::parse(name, revision).ok()?;
        if self.folder(&written(name, revision)).is_ok() {
            return None;
        }
        let snapshot = self.cache.snapshot(self.storage, &id, part.file()).ok();
        let likely = snapshot.is_some() || (id.has_owner() && !self.has_folder_of_owner(name));
        likely.then_some(OnHub { id, part, snapshot })
    }

    /// The folder at a path, or the places that were searched with what was found there.
    fn folder(&self, written: &str) -> Result<PathBuf, Looked> {
        let places = self.places(written);
        let mut looked = Looked::default();
        if places.is_empty() {
            looked.places.push((PathBuf::from("~"), "no home folder is known (HOME)".into()));
            return Err(looked);
        }
        for place in places {
            match self.storage.facts(&place) {
                Ok(facts) if facts.kind == FileKind::Dir => return Ok(place),
                Ok(_) => looked.places.push((place, "a file, expected a model folder".to_owned())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    looked.places.push((place, "no such folder".to_owned()));
                }
                Err(e) => {
                    looked.hint = StorageError::hint_of(&e);
                    looked.places.push((place, e.to_string()));
                }
            }
        }
        Err(looked)
    }

    fn places(&self, written: &str) -> Vec<PathBuf> {
        let home = |rest: &str| self.cache.home.as_ref().map(|home| home.join(rest.trim_start_matches(['/', '\\'])));
        if let Some(rest) = written.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with(['/', '\\'])) {
            return home(rest).into_iter().collect();
        }
        if is_object(Path::new(written)) {
            return vec![PathBuf::from(written.trim_end_matches('/'))];
        }
        let written = written.strip_prefix("file://").unwrap_or(written);
        // Normalize `./a/` to `a`: models are identified by their folders.
        let path: PathBuf = Path::new(written).components().collect();
        let path = path.strip_prefix(".").map_or(path.clone(), Path::to_owned);
        if path.is_absolute() {
            return vec![path];
        }
        let recipe_dir = self.recipe_dir.strip_prefix(".").unwrap_or(self.recipe_dir);
        if recipe_dir.as_os_str().is_empty() { vec![path] } else { vec![recipe_dir.join(&path), path] }
    }

    /// Whether there is a folder `models`, so that `models/llama` is more likely a path than an id.
    fn has_folder_of_owner(&self, name: &str) -> bool {
        let owner = name.split('/').next().unwrap_or_default();
        self.folder(owner).is_ok()
    }

    fn missing(&self, written: String, why: Option<String>, looked: Vec<(PathBuf, String)>) -> ModelNotFound {
        let mut hints: Vec<String> = why.into_iter().collect();
        if is_object(Path::new(&written)) && !hints.is_empty() {
            return ModelNotFound { written, why: Why::Missing, looked, hints };
        }
        if let Some(near) =
            self.places(&written).iter().find_map(|place| model_not_found::nearest_folder(self.storage, place))
        {
            hints.push(format!("did you mean `{}`?", Path::new(&written).with_file_name(near).display()));
        }
        if written.contains('+') {
            hints.push("a model takes one adapter, `model+adapter`; merge further ones into the model first".into());
        }
        if hints.is_empty() {
            let two_places = self.places("x").len() > 1;
            let from = if two_places { ", from the recipe's or the current one," } else { "" };
            hints.push(format!("give a folder{from} or an id on the Hub: `org/name`"));
        }
        ModelNotFound { written, why: Why::Missing, looked, hints }
    }
}

#[cfg(test)]
mod tests;
