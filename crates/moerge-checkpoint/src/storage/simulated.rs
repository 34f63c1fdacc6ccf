//! A disk in memory that can lose power and fail, for tests. It has two images: the live one, which the program sees,
//! and the durable one, which contains what was synced. [`SimulatedDisk::crash`] returns the disk after a restart, and
//! [`SimulatedDisk::fail_operation`] makes any one operation fail. Every call through [`ReadStorage`],
//! [`OutputStorage`], [`ReadAt`] and [`WriteAt`] that touches the disk counts as one operation; folders are created and
//! removed entry by entry, each of which counts.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::OutputStorage;
#[cfg(doc)]
use super::{ReadAt, ReadStorage, WriteAt};

mod file_change;
mod name_change;
mod node;
mod objects;
mod operations;
mod tree;

pub use objects::SimulatedObjects;

use node::NodeId;
use tree::Tree;

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No space left. A write leaves half of its bytes.
    NoSpace,
    /// An I/O error of the medium.
    Io,
    /// A read finds the end of the file too early; other operations fail as with [`Fault::Io`].
    ShortRead,
}

/// What survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// Only what was synced: a power cut at its worst.
    Synced,
    /// Everything: the process was killed, but the machine kept running.
    Everything,
    /// What was synced and a pseudo-random part of the rest, by this seed; writes may be torn.
    Some(u64),
}

struct State {
    tree: Tree,
    operations: u64,
    fault: Option<(u64, Fault)>,
    power_off: Option<u64>,
    /// What is locked, and whether others may share it; an entry for each holder.
    locked: Vec<(NodeId, bool)>,
    free_space: u64,
}

impl Default for SimulatedDisk {
    fn default() -> SimulatedDisk {
        SimulatedDisk::new()
    }
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::of(Tree::new())
    }

    fn of(tree: Tree) -> SimulatedDisk {
        let (operations, fault, power_off, locked) = (0, None, None, Vec::new());
        let free_space = 1 << 40;
        SimulatedDisk(Arc::new(Mutex::new(State { tree, operations, fault, power_off, locked, free_space })))
    }

    /// As the shared trait object that the rest of the crate takes.
    pub fn shared(&self) -> Arc<dyn OutputStorage> {
        Arc::new(self.clone())
    }

    /// The number of operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Makes operation number `n` (the first ever is 0) fail, once.
    pub fn fail_operation(&self, n: u64, fault: Fault) {
        self.state().fault = Some((n, fault));
    }

    /// Cuts the power before operation number `n`: it and all that follow fail and do nothing.
    pub fn power_off_at(&self, n: u64) {
        self.state().power_off = Some(n);
    }

    /// The disk after a crash at this moment, with power and without locks. `self` is not changed.
    pub fn crash(&self, survives: Survives) -> SimulatedDisk {
        SimulatedDisk::of(self.state().tree.after_crash(survives))
    }

    /// Sets the result of [`OutputStorage::free_space`].
    pub fn set_free_space(&self, bytes: u64) {
        self.state().free_space = bytes;
    }

    /// Creates a durable file and its folders, without counting operations.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        self.state().tree.put(path.as_ref(), bytes);
    }

    /// All files below `dir` with their content, as the program sees them; empty if there is no such
    /// folder. Paths are relative to `dir`. Counts no operations.
    pub fn files(&self, dir: impl AsRef<Path>) -> Vec<(PathBuf, Vec<u8>)> {
        self.state().tree.files(dir.as_ref())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operation(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match state.step() {
            None => Ok(state),
            Some(fault) => Err(fault.error()),
        }
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::NoSpace => io::Error::new(io::ErrorKind::StorageFull, "simulated full disk"),
            Fault::Io | Fault::ShortRead => io::Error::other("simulated I/O error"),
        }
    }
}

impl State {
    /// Counts an operation; returns the fault if it must fail.
    fn step(&mut self) -> Option<Fault> {
        let number = self.operations;
        self.operations += 1;
        if self.power_off.is_some_and(|from| number >= from) {
            return Some(Fault::Io);
        }
        let (_, fault) = self.fault.filter(|(at, _)| *at == number)?;
        self.fault = None;
        Some(fault)
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedDisk")
    }
}
