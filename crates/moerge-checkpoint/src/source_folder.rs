//! Which files of a model folder hold its weights, and what to say about a folder that has none or
//! not all of them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use crate::error::{Error, Result, io_at};
use crate::index::{INDEX_FILE, Index, PICKLED_INDEX_FILE};
use crate::storage::{Kind, Storage, facts_if_any};

/// The names of the weights in a folder.
pub(crate) enum Weights {
    Single(String),
    Shards(Vec<String>),
    Indexed(Index, Vec<String>),
}

const SINGLE_FILE: &str = "model.safetensors";
/// What older models have: the same by Python's pickle.
const PICKLED_FILE: &str = "pytorch_model.bin";

/// Finds the safetensors files of the folder `dir`. All named files exist.
pub(crate) fn find_weights(storage: &dyn Storage, dir: &Path) -> Result<Weights> {
    match facts_if_any(storage, dir).map_err(io_at("open", dir))? {
        None => return Err(Error::FolderMissing { folder: dir.to_owned() }),
        Some(facts) if facts.kind != Kind::Dir => {
            return Err(Error::NotAFolder { path: dir.to_owned() });
        }
        Some(_) => {}
    }
    let names = storage.list(dir).map_err(io_at("list", dir))?;
    // Names that are not Unicode cannot be any that is looked for.
    let names: BTreeSet<String> = names.into_iter().filter_map(as_text).collect();
    if names.contains(SINGLE_FILE) {
        check_there(storage, dir, SINGLE_FILE, &names, SINGLE_FILE)?;
        return Ok(Weights::Single(SINGLE_FILE.to_owned()));
    }
    if names.contains(INDEX_FILE) {
        let index = Index::read(storage, &dir.join(INDEX_FILE))?;
        let files: Vec<String> = index.files().into_iter().map(str::to_owned).collect();
        for file in &files {
            check_there(storage, dir, file, &names, INDEX_FILE)?;
        }
        return Ok(Weights::Indexed(index, files));
    }
    let shards = shard_set(dir, &names)?;
    match shards {
        Some(shards) => {
            for shard in &shards {
                check_there(storage, dir, shard, &names, shard)?;
            }
            Ok(Weights::Shards(shards))
        }
        None if names.contains(PICKLED_FILE) => {
            check_there(storage, dir, PICKLED_FILE, &names, PICKLED_FILE)?;
            Ok(Weights::Single(PICKLED_FILE.to_owned()))
        }
        None if names.contains(PICKLED_INDEX_FILE) => {
            let index = Index::read(storage, &dir.join(PICKLED_INDEX_FILE))?;
            let files: Vec<String> = index.files().into_iter().map(str::to_owned).collect();
            for file in &files {
                check_there(storage, dir, file, &names, PICKLED_INDEX_FILE)?;
            }
            Ok(Weights::Indexed(index, files))
        }
        None => Err(Error::NoSafetensors { folder: dir.to_owned(), found: other_weights(&names) }),
    }
}

/// Checks that `name` is in the folder and leads to something.
fn check_there(
    storage: &dyn Storage,
    dir: &Path,
    name: &str,
    names: &BTreeSet<String>,
    called_for_by: &str,
) -> Result<()> {
    // The system is asked even about a name that the list has not: on some it is found in another
    // case, and on some a listed name is a link that leads nowhere.
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

/// The complete set of numbered shards, in order; `None` if there is not even one.
fn shard_set(dir: &Path, names: &BTreeSet<String>) -> Result<Option<Vec<String>>> {
    let mut shards = names.iter().filter_map(|name| Some((name, shard_number(name)?)));
    let Some((first, (_, count))) = shards.next() else { return Ok(None) };
    if let Some((second, _)) = shards.find(|(_, (_, other))| *other != count) {
        let (first, second) = (first.clone(), second.clone());
        return Err(Error::MixedShards { folder: dir.to_owned(), first, second });
    }
    // The count is only a claim: look for each name in turn and stop at the first that is absent.
    let mut set = Vec::new();
    for number in 1..=count {
        let name = format!("model-{number:05}-of-{count:05}.safetensors");
        if !names.contains(&name) {
            let called_for_by = first.clone();
            return Err(Error::ShardMissing { file: dir.join(name), called_for_by });
        }
        set.push(name);
    }
    Ok(Some(set))
}

/// Number and count of `model-00002-of-00010.safetensors`.
fn shard_number(name: &str) -> Option<(u32, u32)> {
    let numbers = name.strip_prefix("model-")?.strip_suffix(".safetensors")?;
    let (number, count) = numbers.split_once("-of-")?;
    let parse = |digits: &str| {
        let plain = digits.len() >= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if plain { digits.parse::<u32>().ok() } else { None }
    };
    let (number, count) = (parse(number)?, parse(count)?);
    (1..=count).contains(&number).then_some((number, count))
}

/// Files that look like weights of another format or name, for the error message.
fn other_weights(names: &BTreeSet<String>) -> Vec<String> {
    const ENDINGS: [&str; 7] = [".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".h5"];
    const NOT_WEIGHTS: [&str; 3] = ["training_args.bin", "tokenizer.bin", "scheduler.pt"];
    let weights = names
        .iter()
        .filter(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)) && !NOT_WEIGHTS.contains(&name.as_str()));
    weights.cloned().collect()
}
