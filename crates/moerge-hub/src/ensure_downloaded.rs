//! Makes the models that a recipe or a command line names readable: downloads them into the cache, or mounts them so
//! that they are read over the network.

use std::path::{Path, PathBuf};

use moerge_checkpoint::{Checkpoint, LocalStorage, ReadStorage};

use super::{Hub, HubStorage, RepoKind};
use moerge_core::{
    error::{Error, Result},
    model::{
        files::{ADAPTER_WEIGHTS, TOKENIZER_FILES},
        gguf::local_models,
        locate::{HubCache, HubId, ModelFolders, ModelPart, OnHub, locate, on_hub},
    },
    progress::Progress,
    recipe::{Document, Located, ModelRef},
};

impl From<ModelPart> for RepoKind {
    fn from(part: ModelPart) -> Self {
        match part {
            ModelPart::Model => Self::Model,
            ModelPart::Adapter => Self::Adapter,
        }
    }
}

impl Hub {
    /// Downloads the models of a recipe that are not in the cache. Those in the cache are used as they are, without the
    /// network.
    ///
    /// # Errors
    /// A model cannot be downloaded; the error points at its name in the recipe.
    pub fn ensure_recipe_downloaded(
        &self,
        recipe: &Document,
        recipe_dir: &Path,
        progress: &dyn Progress,
    ) -> Result<()> {
        let missing = missing(recipe, recipe_dir, &self.settings.cache);
        let models: Vec<(HubId, RepoKind)> = missing.iter().map(|(m, _)| (m.id.clone(), m.part.into())).collect();
        if models.is_empty() {
            return Ok(());
        }
        self.pull(&models, progress).map(drop).map_err(|(number, error)| at_place(recipe, &missing, number, error))
    }

    /// The folders of a reference on a command line, in `storage`. Parts that are neither folders nor in the cache are downloaded.
    ///
    /// # Errors
    /// A part cannot be downloaded, or is found nowhere.
    pub fn ensure_downloaded(
        &self,
        storage: &dyn ReadStorage,
        reference: &ModelRef,
        dir: &Path,
        progress: &dyn Progress,
    ) -> Result<ModelFolders> {
        let cache = &self.settings.cache;
        let missing = on_hub(storage, reference, dir, cache).into_iter().filter(|m| !is_complete(m));
        let models: Vec<(HubId, RepoKind)> = missing.map(|m| (m.id, m.part.into())).collect();
        if !models.is_empty() {
            self.pull(&models, progress).map_err(|(_, error)| error)?;
        }
        Ok(locate(storage, reference, dir, cache)?)
    }

    /// The same for a repository that may hold a model or an adapter.
    ///
    /// # Errors
    /// It cannot be downloaded.
    pub fn ensure_repository_downloaded(&self, id: &HubId, progress: &dyn Progress) -> Result<PathBuf> {
        if let Some(folder) = self.cached(id) {
            return Ok(folder);
        }
        let pulled = self.pull(&[(id.clone(), RepoKind::Either)], progress).map_err(|(_, error)| error)?;
        pulled.into_iter().next().map(|p| p.folder).ok_or_else(|| Error::input(format!("{id} was not downloaded")))
    }

    /// The folder of a model or an adapter that is complete in the cache.
    pub fn cached(&self, id: &HubId) -> Option<PathBuf> {
        let cached = |part: ModelPart| {
            let snapshot = self.settings.cache.snapshot(&LocalStorage, id, part.file()).ok();
            OnHub { id: id.clone(), part, snapshot }
        };
        [ModelPart::Model, ModelPart::Adapter].into_iter().map(cached).find(is_complete).and_then(|m| m.snapshot)
    }
}

impl HubStorage {
    /// Mounts the models of a recipe that are not in the cache. Returns the cache with these models in it.
    ///
    /// # Errors
    /// A model cannot be mounted; the error points at its name in the recipe.
    pub fn mount_models(&self, recipe: &Document, recipe_dir: &Path) -> Result<HubCache> {
        let mut cache = self.hub().settings.cache.clone();
        let missing = missing(recipe, recipe_dir, &cache);
        for (number, (model, _)) in missing.iter().enumerate() {
            let folder = self.mount(&model.id, model.part.into()).map_err(|e| at_place(recipe, &missing, number, e))?;
            cache.remote.insert(model.id.to_string(), folder);
        }
        Ok(cache)
    }
}

/// The models of a recipe that are on the Hub and not complete in the cache, each once, with its place in the recipe.
fn missing<'a>(recipe: &'a Document, recipe_dir: &Path, cache: &HubCache) -> Vec<(OnHub, &'a Located<ModelRef>)> {
    let mut missing: Vec<(OnHub, &Located<ModelRef>)> = Vec::new();
    for reference in recipe.models() {
        let document = recipe.earlier(&reference.value).is_some();
        let parts = on_hub(local_models().as_ref(), &reference.value, recipe_dir, cache).into_iter();
        for model in parts.filter(|model| !document || model.part == ModelPart::Adapter) {
            if !is_complete(&model) && missing.iter().all(|(m, _)| (&m.id, m.part) != (&model.id, model.part)) {
                missing.push((model, reference));
            }
        }
    }
    missing
}

fn at_place(recipe: &Document, missing: &[(OnHub, &Located<ModelRef>)], number: usize, error: Error) -> Error {
    let about_recipe = error.kind() == moerge_core::ErrorKind::Input;
    match missing.get(number).filter(|_| about_recipe) {
        Some((_, place)) => error.at(recipe.snippet(&place.span, "")),
        None => error,
    }
}

/// Whether everything needed of a model is in the cache. Python may have downloaded a part of it only.
fn is_complete(model: &OnHub) -> bool {
    let Some(folder) = &model.snapshot else { return false };
    let has = |name: &str| folder.join(name).is_file();
    match model.part {
        ModelPart::Model => Checkpoint::is_in(&LocalStorage, folder) && TOKENIZER_FILES.iter().any(|name| has(name)),
        ModelPart::Adapter => ADAPTER_WEIGHTS.into_iter().any(has),
    }
}
