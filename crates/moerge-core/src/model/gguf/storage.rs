//! A storage in which GGUF files are model folders.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use moerge_checkpoint::{Facts, FileKind, LocalStorage, ReadAt, ReadStorage, WEIGHTS_FILE};

use super::folder::GgufFolder;

/// A storage of models that shows each GGUF file as the folder of its model. Opened as a file, it is still itself.
#[derive(Debug)]
pub struct GgufStorage {
    storage: Arc<dyn ReadStorage>,
    opened: Mutex<HashMap<PathBuf, (Facts, Arc<GgufFolder>)>>,
}

/// Whether a path names a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// The models on this machine: folders, and GGUF files as folders.
pub fn local_models() -> Arc<dyn ReadStorage> {
    GgufStorage::over(Arc::new(LocalStorage))
}

impl GgufStorage {
    /// The models of `storage`.
    pub fn over(storage: Arc<dyn ReadStorage>) -> Arc<dyn ReadStorage> {
        Arc::new(Self { storage, opened: Mutex::default() })
    }

    /// The facts of the GGUF file at `path`, if there is one.
    fn file(&self, path: &Path) -> Option<Facts> {
        is_gguf(path).then(|| self.storage.facts(path).ok()).flatten().filter(|facts| facts.kind == FileKind::File)
    }

    /// The GGUF file that is the folder of `path`, and the name in it.
    fn within<'a>(&self, path: &'a Path) -> Option<(&'a Path, Facts, &'a str)> {
        let folder = path.parent()?;
        Some((folder, self.file(folder)?, path.file_name()?.to_str()?))
    }

    fn folder(&self, path: &Path, facts: Facts) -> io::Result<Arc<GgufFolder>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, folder)) = opened.get(path).filter(|(then, _)| *then == facts) {
            return Ok(folder.clone());
        }
        let folder = GgufFolder::open(self.storage.as_ref(), path).map_err(io::Error::other)?;
        let folder = Arc::new(folder);
        opened.insert(path.to_owned(), (facts, folder.clone()));
        Ok(folder)
    }

    fn opened(&self, path: &Path) -> Option<io::Result<Arc<dyn ReadAt>>> {
        let (folder, facts, name) = self.within(path)?;
        let file = self.folder(folder, facts).map(|folder| folder.file(name));
        Some(file.and_then(|file| file.ok_or_else(|| io::ErrorKind::NotFound.into())))
    }
}

impl ReadStorage for GgufStorage {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>> {
        self.opened(path).unwrap_or_else(|| self.storage.open(path))
    }

    fn facts(&self, path: &Path) -> io::Result<Facts> {
        if let Some(facts) = self.file(path) {
            return Ok(Facts { kind: FileKind::Dir, ..facts });
        }
        let Some((_, facts, _)) = self.within(path) else { return self.storage.facts(path) };
        let file = self.opened(path).unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))?;
        Ok(Facts { len: file.len(), ..facts })
    }

    fn content_hash(&self, path: &Path) -> Option<Vec<u8>> {
        match self.within(path) {
            Some((folder, _, WEIGHTS_FILE)) => self.storage.content_hash(folder),
            Some(_) => None,
            None => self.storage.content_hash(path),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        match self.file(dir) {
            Some(facts) => Ok(self.folder(dir, facts)?.names().map(OsString::from).collect()),
            None => self.storage.list(dir),
        }
    }
}
