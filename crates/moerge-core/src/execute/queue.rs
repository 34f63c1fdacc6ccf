//! Which tensor is written next.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use moerge_checkpoint::OutputDir;

use super::{open_shard::OpenShard, run::Run};
use crate::error::Result;

/// Shards written at a time by more than one thread. Writes to one file wait for each other in most file systems, and
/// while one shard waits for the disk at its end the other goes on. What a kill costs is what is open.
const AT_ONCE: usize = 2;

/// The shards still to be written, and those that are being written.
pub(super) struct Queue<'a> {
    run: &'a Run<'a>,
    output: &'a OutputDir,
    at_once: usize,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    waiting: VecDeque<usize>,
    open: Vec<Handing<'a>>,
}

/// An open shard some of whose tensors nobody has taken yet.
struct Handing<'a> {
    shard: Arc<OpenShard<'a>>,
    next: usize,
}

impl<'a> Queue<'a> {
    /// All that `run` misses.
    pub fn new(run: &'a Run<'a>, output: &'a OutputDir, threads: usize) -> Queue<'a> {
        let state = Mutex::new(State { waiting: run.missing().into(), open: Vec::new() });
        Queue { run, output, at_once: threads.clamp(1, AT_ONCE), state }
    }

    /// A tensor to write, of the shard that fewest threads write to; none when all are taken or the run is over.
    /// Whoever drops a shard's last handle is to finish it: see [`Arc::into_inner`].
    pub fn take(&self) -> Result<Option<(Arc<OpenShard<'a>>, usize)>> {
        if self.run.is_over() {
            return Ok(None);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.open.len() < self.at_once
            && let Some(number) = state.waiting.pop_front()
        {
            let shard = Arc::new(OpenShard::create(self.run, self.output, number)?);
            state.open.push(Handing { shard, next: 0 });
        }
        let least = state.open.iter().enumerate().min_by_key(|(_, handing)| Arc::strong_count(&handing.shard));
        let Some(position) = least.map(|(position, _)| position) else { return Ok(None) };
        let handing = &mut state.open[position];
        let index = handing.next;
        handing.next += 1;
        let last = handing.next == handing.shard.len();
        let shard = if last { state.open.remove(position).shard } else { handing.shard.clone() };
        Ok(Some((shard, index)))
    }
}
