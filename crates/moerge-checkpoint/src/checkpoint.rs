//! A model folder as a set of tensors. Opening it reads the index and the headers, never the
//! weights, and checks that they agree, so an opened checkpoint is complete.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::Index;
use crate::source_file::{Opened, SourceFile};
use crate::source_folder::{self, Weights};
use crate::storage::ReadStorage;
use crate::tensor_view::TensorView;
use crate::workers;

/// Threads that read headers: more than cores, because they wait for the disk.
const READERS: usize = 8;

/// All tensors of a model folder, or of one file.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    files: Vec<Arc<SourceFile>>,
    tensors: BTreeMap<String, TensorView>,
}

impl Checkpoint {
    /// Opens a model folder; [`WeightFiles`](crate::WeightFiles) says which of its files count.
    ///
    /// # Errors
    /// There is no such folder or no such files in it, a shard is missing, index and shards
    /// disagree, or any of the files breaks its format.
    pub fn open(storage: &Arc<dyn ReadStorage>, dir: &Path) -> Result<Checkpoint> {
        match source_folder::find_weights(&**storage, dir)? {
            Weights::Single(name) => Checkpoint::open_files(storage, dir, &[name], None),
            Weights::Shards(names) => Checkpoint::open_files(storage, dir, &names, None),
            Weights::Indexed(index, names) => Checkpoint::open_files(storage, dir, &names, Some(&index)),
        }
    }

    /// A checkpoint without files, for a model that a recipe makes.
    pub fn without_files(dir: &Path) -> Checkpoint {
        Checkpoint { dir: dir.to_owned(), files: Vec::new(), tensors: BTreeMap::new() }
    }

    /// Whether a folder contains all weight files of a model. They are not opened.
    pub fn is_in(storage: &dyn ReadStorage, dir: &Path) -> bool {
        source_folder::find_weights(storage, dir).is_ok()
    }

    /// Opens one safetensors file of any name, such as `adapter_model.safetensors`.
    ///
    /// # Errors
    /// It is not there, or breaks the format.
    pub fn open_file(storage: &Arc<dyn ReadStorage>, path: &Path) -> Result<Checkpoint> {
        let dir = path.parent().unwrap_or(Path::new(""));
        let opened = vec![SourceFile::open(storage, path)?];
        Checkpoint::gather(dir, opened, None)
    }

    fn open_files(
        storage: &Arc<dyn ReadStorage>,
        dir: &Path,
        names: &[String],
        index: Option<&Index>,
    ) -> Result<Checkpoint> {
        let paths: Vec<PathBuf> = names.iter().map(|name| dir.join(name)).collect();
        Checkpoint::gather(dir, open_all(storage, &paths)?, index)
    }

    fn gather(dir: &Path, opened: Vec<Opened>, index: Option<&Index>) -> Result<Checkpoint> {
        let mut tensors: BTreeMap<String, TensorView> = BTreeMap::new();
        let mut files = Vec::with_capacity(opened.len());
        for (file, header) in opened {
            for tensor in header.tensors {
                let view = TensorView {
                    name: tensor.name.clone(),
                    dtype: tensor.dtype,
                    shape: tensor.shape,
                    file: file.clone(),
                    offset: header.data_start + tensor.begin,
                    len: tensor.end - tensor.begin,
                };
                if let Some(other) = tensors.insert(tensor.name, view) {
                    return Err(Error::TensorInTwoFiles {
                        tensor: other.name,
                        first: other.file.path.clone(),
                        second: file.path.clone(),
                    });
                }
            }
            files.push(file);
        }
        if let Some(index) = index {
            check_index(dir, index, &tensors)?;
        }
        Ok(Checkpoint { dir: dir.to_owned(), files, tensors })
    }

    /// The folder that was opened.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The safetensors files, by name.
    pub fn files(&self) -> &[Arc<SourceFile>] {
        &self.files
    }

    /// All tensors, sorted by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorView> {
        self.tensors.values()
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&TensorView> {
        self.tensors.get(name)
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Checks that no file was changed since it was opened.
    ///
    /// # Errors
    /// One was; see [`SourceFile::check_unchanged`].
    pub fn check_unchanged(&self) -> Result<()> {
        self.files.iter().try_for_each(|file| file.check_unchanged())
    }
}

/// Opens files in parallel. Of several errors, that of the first file is returned, so the result is
/// deterministic.
fn open_all(storage: &Arc<dyn ReadStorage>, paths: &[PathBuf]) -> Result<Vec<Opened>> {
    workers::try_map(paths, READERS, |path| SourceFile::open(storage, path)).map_err(|(_, error)| error)
}

/// Index and shards must name the same tensors in the same places.
fn check_index(dir: &Path, index: &Index, tensors: &BTreeMap<String, TensorView>) -> Result<()> {
    for (name, file_name) in &index.weight_map {
        let file = dir.join(file_name);
        if tensors.get(name).is_none_or(|view| view.file.path != file) {
            return Err(Error::TensorNotInShard { tensor: name.clone(), file });
        }
    }
    for (name, view) in tensors {
        if !index.weight_map.contains_key(name) {
            let file = view.file.path.clone();
            return Err(Error::TensorNotInIndex { tensor: name.clone(), file });
        }
    }
    Ok(())
}
