//! A simulated object store: a [`SimulatedDisk`] on which a file appears whole and durable, in one operation.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::SimulatedDisk;
use crate::storage::{Facts, FileKind, Lock, OutputStorage, ReadAt, ReadStorage, WriteAt};

/// An object store on a simulated disk, which counts its operations, makes them fail and cuts the power.
#[derive(Clone, Debug)]
pub struct SimulatedObjects(pub SimulatedDisk);

impl SimulatedObjects {
    /// As the shared trait object that the rest of the crate takes.
    pub fn shared(&self) -> Arc<dyn OutputStorage> {
        Arc::new(self.clone())
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.0.operation()?.tree.put(path, bytes);
        Ok(())
    }
}

impl ReadStorage for SimulatedObjects {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>> {
        self.0.open(path)
    }

    /// A folder is what objects lie in.
    fn facts(&self, path: &Path) -> io::Result<Facts> {
        match self.0.facts(path)? {
            facts if facts.kind == FileKind::Dir && self.0.files(path).is_empty() => {
                Err(io::ErrorKind::NotFound.into())
            }
            facts => Ok(facts),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        match self.0.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names,
        }
    }
}

impl OutputStorage for SimulatedObjects {
    fn is_flat(&self, _path: &Path) -> bool {
        true
    }

    fn create_new(&self, path: &Path, bytes: &[u8]) -> io::Result<bool> {
        let mut state = self.0.operation()?;
        if state.tree.find(path).is_ok() {
            return Ok(false);
        }
        state.tree.put(path, bytes);
        Ok(true)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn WriteAt>> {
        Ok(Arc::new(Upload { store: self.clone(), path: path.to_owned(), content: Mutex::default() }))
    }

    fn link_facts(&self, path: &Path) -> io::Result<Facts> {
        self.facts(path)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.operation()?;
        state.tree.remove(path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        state.tree.find(folder).and_then(|node| state.tree.sync_names(node))
    }

    fn remove_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_space(&self, _path: &Path) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Lock>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn lock_shared(&self, _path: &Path) -> io::Result<Option<Lock>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// An object that is being written.
struct Upload {
    store: SimulatedObjects,
    path: PathBuf,
    content: Mutex<Vec<u8>>,
}

impl WriteAt for Upload {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        drop(self.store.0.operation()?);
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.store.put(&self.path, &self.content.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn start_writing(&self, _offset: u64, _len: u64) {}
}
