//! Finds the weight files of a folder, and explains why a folder has none or not all of them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use crate::error::{Error, Result, io_at};
use crate::index::Index;
use crate::storage::{FileKind, ReadStorage, facts_if_any};
use crate::weight_files::{IncompleteShards, WeightFiles};

/// The names of the weights in a folder.
pub(crate) enum Weights {
    Single(String),
    Shards(Vec<String>),
    Indexed(Index, Vec<String>),
}

/// Finds the safetensors files of the folder `dir`. All named files exist.
pub(crate) fn find_weights(storage: &dyn ReadStorage, dir: &Path) -> Result<Weights> {
    match facts_if_any(storage, dir).map_err(io_at("open", dir))? {
        None => return Err(Error::FolderMissing { folder: dir.to_owned() }),
        Some(facts) if facts.kind != FileKind::Dir => {
            return Err(Error::NotAFolder { path: dir.to_owned() });
        }
        Some(_) => {}
    }
    let names = storage.list(dir).map_err(io_at("list", dir))?;
    // Names that are not Unicode are none of those.
    let names: BTreeSet<String> = names.into_iter().filter_map(as_text).collect();
    let there = |name: &str, called_for_by: &str| check_there(storage, dir, name, &names, called_for_by);
    match WeightFiles::among(&names).map_err(|problem| incomplete(dir, problem))? {
        Some(WeightFiles::Single(name)) => {
            there(name, name)?;
            Ok(Weights::Single(name.to_owned()))
        }
        Some(WeightFiles::Indexed(name)) => {
            let index = Index::read(storage, &dir.join(name))?;
            let files: Vec<String> = index.files().into_iter().map(str::to_owned).collect();
            files.iter().try_for_each(|file| there(file, name))?;
            Ok(Weights::Indexed(index, files))
        }
        Some(WeightFiles::Numbered(shards)) => {
            shards.iter().try_for_each(|shard| there(shard, shard))?;
            Ok(Weights::Shards(shards))
        }
        None => {
            let found = names.into_iter().filter(|name| WeightFiles::resembled_by(name)).collect();
            Err(Error::NoSafetensors { folder: dir.to_owned(), found })
        }
    }
}

fn incomplete(dir: &Path, problem: IncompleteShards) -> Error {
    match problem {
        IncompleteShards::Mixed { first, second } => Error::MixedShards { folder: dir.to_owned(), first, second },
        IncompleteShards::Missing { file, counted_by } => {
            Error::ShardMissing { file: dir.join(file), called_for_by: counted_by }
        }
    }
}

/// Checks that `name` is in the folder and is not a dangling link.
fn check_there(
    storage: &dyn ReadStorage,
    dir: &Path,
    name: &str,
    names: &BTreeSet<String>,
    called_for_by: &str,
) -> Result<()> {
    // Ask the system even if the name is not listed: file names may be case-insensitive, and a listed
    // name may be a dangling link.
    let file = dir.join(name);
    if facts_if_any(storage, &file).map_err(io_at("open", &file))?.is_some() {
        Ok(())
    } else if names.contains(name) {
        Err(Error::BrokenLink { file })
    } else {
        Err(Error::ShardMissing { file, called_for_by: called_for_by.to_owned() })
    }
}

fn as_text(name: OsString) -> Option<String> {
    name.into_string().ok()
}
