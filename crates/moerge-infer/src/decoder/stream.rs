//! The weights as one stream, in the order in which the forward pass uses them, with read-ahead.
//!
//! Two threads read tiles (some rows of a matrix) into a fixed set of buffers, across matrices and layers, so the disk
//! stays busy while layers are computed. Every weight is read once, and memory is a few tiles whatever the model's
//! size. The tile size is a constant, so results do not depend on the machine.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::weights::{Weights, bug, matrix_shape, tensor_of};
use moerge_core::{
    error::{Error, Result},
    model::families::{DecoderOptions, Role},
    progress::{Progress, Stage},
};

/// Weights per tile (at least one row).
const TILE_WEIGHTS: usize = 2 << 20;

const READERS: usize = 2;
/// Buffers, and so tiles in memory.
pub(super) const BUFFERS: usize = 10;

/// The consumer's end of the stream.
pub(super) struct Stream<'a> {
    pub(super) weights: &'a dyn Weights,
    pub(super) progress: &'a dyn Progress,
    shared: &'a Shared,
    position: usize,
}

/// Some rows of the current weight. Dropping a tile returns its buffer to the readers.
pub(super) struct Tile<'a> {
    /// Its rows within the weight.
    pub(super) rows: Range<usize>,
    raw: Vec<u8>,
    shared: &'a Shared,
}

/// Calls `body` with the stream of `roles`.
pub(super) fn with_stream<T>(
    weights: &dyn Weights,
    roles: &[Role],
    progress: &dyn Progress,
    body: impl FnOnce(&mut Stream<'_>) -> Result<T>,
) -> Result<T> {
    let jobs = jobs(weights, roles)?;
    let shared = Shared { jobs, state: Mutex::default(), changed: Condvar::new() };
    shared.lock().free = vec![Vec::new(); BUFFERS];
    std::thread::scope(|scope| {
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, || shared.read_ahead(weights)).ok();
        if (0..READERS).map_while(start).count() == 0 {
            return Err(Error::input("the system refused to start a thread for reading weights")
                .hint("a limit on processes or memory may be too low; see `ulimit -a`"));
        }
        // The scope waits for the readers, so they must end however `body` ends.
        let _close = Close(&shared);
        body(&mut Stream { weights, progress, shared: &shared, position: 0 })
    })
}

/// Rows per tile of a matrix with this many columns.
pub(super) fn tile_rows(columns: usize) -> usize {
    (TILE_WEIGHTS / columns.max(1)).max(1)
}

fn jobs(weights: &dyn Weights, roles: &[Role]) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for role in roles {
        let (rows, columns) = matrix_shape(tensor_of(weights.description(), *role)?);
        let step = tile_rows(columns);
        jobs.extend((0..rows).step_by(step).map(|first| Job { role: *role, rows: first..(first + step).min(rows) }));
    }
    Ok(jobs)
}

impl<'a> Stream<'a> {
    /// The model's options.
    pub(super) fn options(&self) -> &'a DecoderOptions {
        &self.weights.description().decoder
    }

    /// Rows and columns of `role`.
    pub(super) fn shape(&self, role: Role) -> Result<(usize, usize)> {
        Ok(matrix_shape(tensor_of(self.weights.description(), role)?))
    }

    /// The next tile, which must be of `role`. Waits for the readers; fails if the user stops the run.
    pub(super) fn next(&mut self, role: Role) -> Result<Tile<'a>> {
        self.progress.check()?;
        let job = self.shared.jobs.get(self.position).filter(|job| job.role == role);
        let job = job.ok_or_else(|| bug(format!("the stream of weights is not at {role:?}")))?;
        let mut state = self.shared.lock();
        let raw = loop {
            if let Some(raw) = state.ready.remove(&self.position) {
                break raw?;
            }
            if state.closed {
                return Err(bug("a thread that reads weights ended early"));
            }
            // If this thread belongs to the pool, the tiles in use may be waiting for it.
            drop(state);
            let worked = rayon::yield_now() == Some(rayon::Yield::Executed);
            state = self.shared.lock();
            if worked || state.ready.contains_key(&self.position) {
                continue;
            }
            let poll_interval = Duration::from_millis(100);
            state = self.shared.changed.wait_timeout(state, poll_interval).unwrap_or_else(PoisonError::into_inner).0;
            self.progress.check()?;
        };
        drop(state);
        self.position += 1;
        self.progress.bytes_read(Stage::Prompts, raw.len() as u64);
        Ok(Tile { rows: job.rows.clone(), raw, shared: self.shared })
    }

    /// Skips `role`.
    pub(super) fn skip(&mut self, role: Role) -> Result<()> {
        let (rows, _) = self.shape(role)?;
        while self.next(role)?.rows.end < rows {}
        Ok(())
    }

    /// A vector, such as a norm's weight.
    pub(super) fn vector(&mut self, role: Role) -> Result<Vec<f32>> {
        let (rows, columns) = self.shape(role)?;
        let mut vector = vec![0.0; rows * columns];
        let mut filled = 0;
        while filled < rows {
            let tile = self.next(role)?;
            let out = &mut vector[tile.rows.start * columns..tile.rows.end * columns];
            self.weights.widen(role, tile.rows.clone(), &tile.raw, out)?;
            filled = tile.rows.end;
        }
        Ok(vector)
    }
}

impl Tile<'_> {
    /// The fetched bytes of `rows` of this tile.
    pub(super) fn bytes(&self, rows: Range<usize>) -> &[u8] {
        let row_bytes = self.raw.len() / self.rows.len().max(1);
        &self.raw[(rows.start - self.rows.start) * row_bytes..(rows.end - self.rows.start) * row_bytes]
    }
}

impl Drop for Tile<'_> {
    fn drop(&mut self) {
        self.shared.lock().free.push(std::mem::take(&mut self.raw));
        self.shared.changed.notify_all();
    }
}

/// One fetch of a reader.
struct Job {
    role: Role,
    rows: Range<usize>,
}

struct Shared {
    jobs: Vec<Job>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The first job that no reader has started.
    next: usize,
    /// Tiles that were read, by job index.
    ready: HashMap<usize, Result<Vec<u8>>>,
    free: Vec<Vec<u8>>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches jobs while there are free buffers. Jobs take their buffers in order, so later jobs cannot starve the one
    /// that the consumer waits for.
    fn read_ahead(&self, weights: &dyn Weights) {
        let _close = Close(self);
        loop {
            let mut state = self.lock();
            let mut raw = loop {
                if state.closed || state.next == self.jobs.len() {
                    return;
                }
                match state.free.pop() {
                    Some(raw) => break raw,
                    None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            let index = state.next;
            state.next += 1;
            drop(state);
            let job = &self.jobs[index];
            let fetched = weights.fetch(job.role, job.rows.clone(), &mut raw).map(|()| raw);
            self.lock().ready.insert(index, fetched);
            self.changed.notify_all();
        }
    }
}

/// Closes the stream when the consumer is done or a reader panics.
struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        // A reader that runs out of jobs must not close it: the others may still deliver tiles.
        state.closed |= std::thread::panicking() || state.next < self.0.jobs.len();
        drop(state);
        self.0.changed.notify_all();
    }
}
