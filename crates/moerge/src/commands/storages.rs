//! Where models are read from and written to: the local file system, and URLs of object stores.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use moerge_checkpoint::{ReadStorage, is_object};
use moerge_core::{
    model::gguf::GgufStorage,
    recipe::{Document, ModelRef},
};
use moerge_lib::memory::StorageMemory;
use moerge_objects::{OBJECT_MEMORY, ObjectStorage, PART_MEMORY};

use crate::interrupt;

/// The storage of paths and URLs, one for the whole process.
pub fn shared() -> Arc<ObjectStorage> {
    static SHARED: OnceLock<Arc<ObjectStorage>> = OnceLock::new();
    SHARED.get_or_init(|| Arc::new(ObjectStorage::new(Arc::new(interrupt::requested)))).clone()
}

/// The models in it, GGUF files as folders.
pub fn models() -> Arc<dyn ReadStorage> {
    GgufStorage::over(shared())
}

/// What the storages take of memory to merge the models of a recipe to `out`.
pub fn memory(recipe: &Document, out: &Path) -> StorageMemory {
    let is_url = |reference: &ModelRef| {
        let adapter = reference.adapter.iter().map(|adapter| &adapter.model);
        adapter.chain([&reference.model]).any(|name| is_object(Path::new(name)))
    };
    if is_object(out) || recipe.models().iter().any(|reference| is_url(&reference.value)) {
        OF_OBJECTS
    } else {
        StorageMemory::default()
    }
}

/// What the storages take to read the models of these names, with or without adapters, and to write `out`.
pub fn memory_of(names: &[&str], out: &Path) -> StorageMemory {
    let mut paths = names.iter().flat_map(|name| name.split('+')).map(Path::new).chain([out]);
    if paths.any(is_object) { OF_OBJECTS } else { StorageMemory::default() }
}

const OF_OBJECTS: StorageMemory = StorageMemory { fixed: OBJECT_MEMORY, per_worker: PART_MEMORY };
