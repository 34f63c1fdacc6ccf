//! The queue of tensors to write.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    open_shard::OpenShard,
    run::{Run, ShardNumber},
    work::Work,
};
use crate::error::Result;

/// Maximum number of open shards of a target. Most file systems serialize writes to a file, and while one shard is synced
/// the other is written. More would lose more work if the process is killed.
const AT_ONCE: usize = 2;

/// The tensors that no worker has taken.
pub(super) struct Queue<'a> {
    run: &'a Run<'a>,
    at_once: usize,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    waiting: VecDeque<Lane<'a>>,
    open: Vec<Lane<'a>>,
}

/// Tensors that are written in their order: those of a shard, or, with several targets, all of them.
#[derive(Default)]
struct Lane<'a> {
    tensors: VecDeque<Vec<Place>>,
    shards: Vec<Handing<'a>>,
}

/// Where a tensor is written.
#[derive(Clone, Copy)]
struct Place {
    shard: ShardNumber,
    index: usize,
}

/// An open shard with tensors that no worker has taken.
struct Handing<'a> {
    number: ShardNumber,
    shard: Arc<OpenShard<'a>>,
    left: usize,
}

impl<'a> Queue<'a> {
    /// All unfinished shards of `run`.
    pub fn new(run: &'a Run<'a>, threads: usize) -> Queue<'a> {
        let lanes = if run.targets() == 1 { shard_by_shard(run) } else { VecDeque::from([tensor_by_tensor(run)]) };
        let state = Mutex::new(State { waiting: lanes, open: Vec::new() });
        Queue { run, at_once: threads.clamp(1, AT_ONCE), state }
    }

    /// Takes a tensor of the open lane with the fewest threads; `None` if all are taken or the run has ended. The worker
    /// that drops a shard's last handle must finish the shard: see [`Arc::into_inner`].
    pub fn take(&self) -> Result<Option<Work<'a>>> {
        if self.run.is_over() {
            return Ok(None);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.open.len() < self.at_once
            && let Some(lane) = state.waiting.pop_front()
        {
            state.open.push(lane);
        }
        let threads = |lane: &Lane<'_>| lane.shards.iter().map(|open| Arc::strong_count(&open.shard)).sum::<usize>();
        let least = state.open.iter().enumerate().min_by_key(|(_, lane)| threads(lane)).map(|(position, _)| position);
        let Some(position) = least else { return Ok(None) };
        let lane = &mut state.open[position];
        let places = lane.tensors.pop_front().unwrap_or_default();
        let places = places.into_iter().map(|place| Ok((lane.handle(self.run, place.shard)?, place.index)));
        let places = places.collect::<Result<Vec<_>>>()?;
        if lane.tensors.is_empty() {
            state.open.remove(position);
        }
        Ok(Some(Work { places }))
    }
}

impl<'a> Lane<'a> {
    /// A handle of the shard, which is created for its first tensor. The last tensor gets the last handle.
    fn handle(&mut self, run: &'a Run<'a>, number: ShardNumber) -> Result<Arc<OpenShard<'a>>> {
        let position = match self.shards.iter().position(|open| open.number == number) {
            Some(position) => position,
            None => {
                let shard = Arc::new(OpenShard::create(run, number)?);
                self.shards.push(Handing { number, left: run.shard(number).tensors.len(), shard });
                self.shards.len() - 1
            }
        };
        self.shards[position].left -= 1;
        Ok(match self.shards[position].left {
            0 => self.shards.swap_remove(position).shard,
            _ => self.shards[position].shard.clone(),
        })
    }
}

/// A lane for each shard.
fn shard_by_shard<'a>(run: &Run<'_>) -> VecDeque<Lane<'a>> {
    let lane = |number: ShardNumber| {
        let places = (0..run.shard(number).tensors.len()).map(|index| vec![Place { shard: number, index }]);
        Lane { tensors: places.collect(), shards: Vec::new() }
    };
    run.missing().into_iter().map(lane).collect()
}

/// A lane of all tensors that some target lacks, with their places in all of these.
fn tensor_by_tensor<'a>(run: &Run<'_>) -> Lane<'a> {
    let mut tensors: Vec<Vec<Place>> = Vec::new();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for shard in run.missing() {
        for (index, tensor) in run.shard(shard).tensors.iter().enumerate() {
            let number = *numbers.entry(&tensor.spec.name).or_insert(tensors.len());
            if number == tensors.len() {
                tensors.push(Vec::new());
            }
            tensors[number].push(Place { shard, index });
        }
    }
    Lane { tensors: tensors.into(), shards: Vec::new() }
}
