//! `model.safetensors.index.json`: which shard contains which tensor. It is untrusted, so its file
//! names must be plain names of `.safetensors` files, and nothing outside the model's folder is read.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, IndexError, Result, io_at};
use crate::file_name;
use crate::json_entries::Entries;
use crate::names::{INDEX_FILE, PICKLED_INDEX_FILE};
use crate::shard_layout::ShardLayout;
use crate::source_file::LFS_POINTER;
use crate::storage::{FileKind, ReadStorage};

/// The maximum length of an index in bytes. Those of the largest models have about ten megabytes.
const MAX_INDEX_BYTES: u64 = 100_000_000;

/// The content of an index file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Tensor name to file name.
    pub weight_map: BTreeMap<String, String>,
    /// Bytes of all tensors without headers, according to the file. This is wrong in many published
    /// files, so nothing relies on it.
    pub total_size: Option<u64>,
}

impl Index {
    /// The index of a new model.
    pub fn of(layout: &ShardLayout) -> Index {
        let weight_map = layout
            .shards
            .iter()
            .flat_map(|shard| {
                let file = &shard.file_name;
                shard.tensors.iter().map(|tensor| (tensor.spec.name.clone(), file.clone()))
            })
            .collect();
        Index { weight_map, total_size: Some(layout.total_tensor_bytes()) }
    }

    /// Reads an index file.
    ///
    /// # Errors
    /// It cannot be read, is a git-lfs pointer, or breaks the format; see [`IndexError`].
    pub fn read(storage: &dyn ReadStorage, path: &Path) -> Result<Index> {
        let broken = |problem| Error::Index { file: path.to_owned(), problem };
        let facts = storage.facts(path).map_err(io_at("open", path))?;
        if facts.kind != FileKind::File {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        if facts.len > MAX_INDEX_BYTES {
            let (len, limit) = (facts.len, MAX_INDEX_BYTES);
            return Err(broken(IndexError::TooLong { len, limit }));
        }
        let file = storage.open(path).map_err(io_at("open", path))?;
        let mut bytes = vec![0; facts.len as usize];
        file.read_exact_at(&mut bytes, 0).map_err(io_at("read", path))?;
        if bytes.starts_with(LFS_POINTER) {
            return Err(Error::LfsPointer { file: path.to_owned() });
        }
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or(INDEX_FILE);
        Index::parse(name, &bytes).map_err(broken)
    }

    /// Parses the content of the index file called `name`, which says whether the shards are safetensors or pickles.
    ///
    /// # Errors
    /// See [`IndexError`].
    pub fn parse(name: &str, json: &[u8]) -> Result<Index, IndexError> {
        let ending = if name == PICKLED_INDEX_FILE { ".bin" } else { ".safetensors" };
        #[derive(Deserialize)]
        #[serde(expecting = "an object with weight_map")]
        struct Raw {
            metadata: Option<serde_json::Value>,
            weight_map: Entries<String>,
        }
        let raw: Raw =
            serde_json::from_slice(json).map_err(|error| IndexError::NotAnIndex { message: error.to_string() })?;
        if let Some(tensor) = raw.weight_map.repeated_key() {
            return Err(IndexError::DuplicateTensor { tensor: tensor.to_owned() });
        }
        for (tensor, file) in &raw.weight_map.0 {
            if !file_name::is_plain(file) || !file.ends_with(ending) {
                let (tensor, file) = (tensor.clone(), file.clone());
                return Err(IndexError::BadFileName { tensor, file, ending });
            }
        }
        let total_size = raw.metadata.and_then(|metadata| {
            let size = metadata.get("total_size")?;
            // Some writers use a float.
            size.as_u64().or_else(|| size.as_f64().filter(|size| *size >= 0.0).map(|size| size as u64))
        });
        Ok(Index { weight_map: raw.weight_map.0.into_iter().collect(), total_size })
    }

    /// Encodes the file like transformers: indented by two spaces, sorted, with a final newline.
    pub fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Raw<'a> {
            metadata: BTreeMap<&'static str, u64>,
            weight_map: &'a BTreeMap<String, String>,
        }
        let metadata = self.total_size.map(|size| ("total_size", size)).into_iter().collect();
        // Writing strings and numbers to memory cannot fail.
        let mut bytes = serde_json::to_vec_pretty(&Raw { metadata, weight_map: &self.weight_map }).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The names of the shards, sorted, each once.
    pub fn files(&self) -> Vec<&str> {
        let files: std::collections::BTreeSet<&str> = self.weight_map.values().map(String::as_str).collect();
        files.into_iter().collect()
    }
}
