//! The queue of tensors to write.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use moerge_checkpoint::OutputDir;

use super::{open_shard::OpenShard, run::Run};
use crate::error::Result;

/// Maximum number of open shards. Most file systems serialize writes to a file, and while one shard is synced the other
/// is written. More would lose more work if the process is killed.
const AT_ONCE: usize = 2;

/// The shards that are waiting or open.
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

/// An open shard with tensors that no worker has taken.
struct Handing<'a> {
    shard: Arc<OpenShard<'a>>,
    next: usize,
}

impl<'a> Queue<'a> {
    /// All unfinished shards of `run`.
    pub fn new(run: &'a Run<'a>, output: &'a OutputDir, threads: usize) -> Queue<'a> {
        let state = Mutex::new(State { waiting: run.missing().into(), open: Vec::new() });
        Queue { run, output, at_once: threads.clamp(1, AT_ONCE), state }
    }

    /// Takes a tensor of the open shard with the fewest threads; `None` if all are taken or the run has ended. The
    /// worker that drops a shard's last handle must finish the shard: see [`Arc::into_inner`].
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
