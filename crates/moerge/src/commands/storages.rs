//! Where models are read from and written to: the local file system, and URLs of object stores.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use moerge_checkpoint::{ReadStorage, is_object};
use moerge_core::{model::gguf::GgufStorage, recipe::Document};
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
    let names: Vec<String> = recipe.models().iter().map(|reference| reference.value.to_string()).collect();
    memory_of(names.iter().map(String::as_str), out)
}

/// What the storages take to read the models of these names, with or without adapters, and to write `out`.
pub fn memory_of<'a>(names: impl IntoIterator<Item = &'a str>, out: &Path) -> StorageMemory {
    let mut paths = names.into_iter().flat_map(|name| name.split('+')).map(Path::new).chain([out]);
    if paths.any(is_object) { OF_OBJECTS } else { StorageMemory::default() }
}

const OF_OBJECTS: StorageMemory = StorageMemory { fixed: OBJECT_MEMORY, per_worker: PART_MEMORY };
