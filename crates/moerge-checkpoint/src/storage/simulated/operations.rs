//! The operations of the simulated disk, one method each; all go through `operation`, which counts
//! them and makes them fail.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::node::NodeId;
use super::{Fault, SimulatedDisk};
use crate::storage::{Facts, FileKind, Lock, OutputStorage, ReadAt, ReadStorage, WriteAt};

impl ReadStorage for SimulatedDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>> {
        let state = self.operation()?;
        let node = state.tree.find(path)?;
        let len = state.tree.content(node)?.len() as u64;
        Ok(Arc::new(OpenFile { disk: self.clone(), node, len }))
    }

    fn facts(&self, path: &Path) -> io::Result<Facts> {
        let state = self.operation()?;
        let node = state.tree.find(path)?;
        let (len, kind) = match state.tree.content(node) {
            Ok(content) => (content.len() as u64, FileKind::File),
            Err(_) => (0, FileKind::Dir),
        };
        Ok(Facts { len, kind, modified_ns: state.tree.modified(node), device: 1 })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let state = self.operation()?;
        state.tree.names(state.tree.find(dir)?)
    }
}

impl OutputStorage for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn WriteAt>> {
        let node = self.operation()?.tree.create(path)?;
        Ok(Arc::new(OpenFile { disk: self.clone(), node, len: 0 }))
    }

    /// There are no symbolic links on this disk.
    fn link_facts(&self, path: &Path) -> io::Result<Facts> {
        self.facts(path)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.operation().map(|_| path.to_owned())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = dir.ancestors().collect();
        above.reverse();
        for path in above.into_iter().filter(|path| path.file_name().is_some()) {
            self.operation()?.tree.create_dir(path)?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation()?.tree.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.operation()?.tree.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        state.tree.find(dir).and_then(|node| state.tree.names(node))?;
        state.tree.remove(dir)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        for name in self.list(dir)? {
            let path = dir.join(name);
            let is_dir = {
                let state = self.state();
                state.tree.content(state.tree.find(&path)?).is_err()
            };
            if is_dir { self.remove_dir_all(&path)? } else { self.remove_file(&path)? }
        }
        self.operation()?.tree.remove(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        let node = state.tree.find(dir)?;
        state.tree.sync_names(node)
    }

    fn free_space(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.operation()?.free_space)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        self.lock_by(path, false)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Lock>> {
        self.lock_by(path, true)
    }
}

impl SimulatedDisk {
    fn lock_by(&self, path: &Path, shared: bool) -> io::Result<Option<Lock>> {
        let mut state = self.operation()?;
        let node = match state.tree.find(path) {
            Ok(node) => node,
            Err(_) => state.tree.create(path)?,
        };
        if state.locked.iter().any(|(held, others)| *held == node && !(shared && *others)) {
            return Ok(None);
        }
        state.locked.push((node, shared));
        Ok(Some(Lock::new(HeldLock { disk: self.clone(), node })))
    }
}

struct HeldLock {
    disk: SimulatedDisk,
    node: NodeId,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let locked = &mut self.disk.state().locked;
        if let Some(position) = locked.iter().position(|(node, _)| *node == self.node) {
            locked.remove(position);
        }
    }
}

struct OpenFile {
    disk: SimulatedDisk,
    node: NodeId,
    len: u64,
}

impl ReadAt for OpenFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        match state.step() {
            None => {}
            Some(Fault::ShortRead) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(fault) => return Err(fault.error()),
        }
        let content = state.tree.content(self.node)?;
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|from| content.get(from..from.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }
}

impl WriteAt for OpenFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        match state.step() {
            None => state.tree.write(self.node, offset, bytes),
            Some(Fault::NoSpace) => {
                state.tree.write(self.node, offset, &bytes[..bytes.len() / 2])?;
                Err(Fault::NoSpace.error())
            }
            Some(fault) => Err(fault.error()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.operation()?.tree.set_len(self.node, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.operation()?.tree.sync_content(self.node)
    }

    /// Nothing is promised, and so nothing lasts. Not an operation: it cannot fail.
    fn start_writing(&self, _offset: u64, _len: u64) {}
}
