//! The state that the workers of a run share: the targets, finished shards, and the first error.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use moerge_checkpoint::{Fingerprint, OutputDir, Shard};

use super::Target;
use crate::{
    error::{Error, Result},
    ops::ComputedValues,
    plan::{OutputTensor, Part},
    progress::Progress,
};

/// The tensors of a shard in order, with their fingerprints.
pub(super) type ShardFingerprints = Vec<(String, Fingerprint)>;

/// How far a shard is.
#[derive(Debug, Clone)]
pub(super) enum ShardState {
    Missing,
    Finished(ShardFingerprints),
    /// Other machines write it.
    OfOthers,
}

impl ShardState {
    /// Those of a target, of whose shards only those of `part` are to be written.
    pub fn of(target: &Target<'_>, part: Option<Part>) -> Result<Vec<ShardState>> {
        let layout = &target.plan.layout;
        let own = part.map_or_else(|| vec![true; layout.shards.len()], |part| part.shards(layout));
        let state = |(finished, own): (_, bool)| match finished {
            _ if !own => ShardState::OfOthers,
            Some(fingerprints) => ShardState::Finished(fingerprints),
            None => ShardState::Missing,
        };
        Ok(target.output.finished_shards(layout)?.into_iter().zip(own).map(state).collect())
    }
}

/// A shard of a target, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShardNumber {
    pub target: usize,
    pub shard: usize,
}

/// Shared by all workers of a run.
pub(super) struct Run<'a> {
    targets: &'a [Target<'a>],
    pub computed: &'a dyn ComputedValues,
    /// The tensors of each target by their names.
    tensors: Vec<HashMap<&'a str, &'a OutputTensor>>,
    pub progress: &'a dyn Progress,
    /// Threads per tensor if there are fewer tensors than threads.
    pub threads_each: usize,
    /// Seed of noise and of random masks.
    pub seed: u64,
    /// Set after an error, so that workers stop.
    over: AtomicBool,
    outcome: Mutex<Outcome>,
}

struct Outcome {
    /// Per target and shard.
    shards: Vec<Vec<ShardState>>,
    warnings: Vec<String>,
    failure: Option<Error>,
}

impl<'a> Run<'a> {
    /// `shards` are those of each target.
    pub fn new(
        targets: &'a [Target<'a>],
        computed: &'a dyn ComputedValues,
        shards: Vec<Vec<ShardState>>,
        threads: usize,
        progress: &'a dyn Progress,
    ) -> Run<'a> {
        let by_name = |target: &Target<'a>| target.plan.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        let tensors: Vec<HashMap<_, _>> = targets.iter().map(by_name).collect();
        let outcome = Mutex::new(Outcome { shards, warnings: Vec::new(), failure: None });
        let threads_each = (threads / tensors.first().map_or(1, HashMap::len).max(1)).max(1);
        let seed = targets.first().map_or(0, |target| target.plan.seed);
        Run { targets, computed, tensors, progress, threads_each, seed, over: AtomicBool::new(false), outcome }
    }

    /// Number of targets.
    pub fn targets(&self) -> usize {
        self.targets.len()
    }

    /// Number of tensors.
    pub fn tensors(&self) -> usize {
        self.tensors.first().map_or(0, HashMap::len)
    }

    /// The unfinished shards.
    pub fn missing(&self) -> Vec<ShardNumber> {
        self.change(|outcome| {
            let shards = |(target, shards): (usize, &Vec<ShardState>)| {
                let missing = shards.iter().enumerate().filter(|(_, shard)| matches!(shard, ShardState::Missing));
                missing.map(|(shard, _)| ShardNumber { target, shard }).collect::<Vec<_>>()
            };
            outcome.shards.iter().enumerate().flat_map(shards).collect()
        })
    }

    /// The layout of a shard.
    pub fn shard(&self, number: ShardNumber) -> &'a Shard {
        &self.targets[number.target].plan.layout.shards[number.shard]
    }

    /// The work folder of a shard.
    pub fn output(&self, number: ShardNumber) -> &'a OutputDir {
        self.targets[number.target].output
    }

    /// The tensor with this name in a target.
    pub fn tensor(&self, number: ShardNumber, name: &str) -> Result<&'a OutputTensor> {
        let tensor = self.tensors[number.target].get(name).copied();
        tensor.ok_or_else(|| Error::input(format!("the plan has no {name}")))
    }

    /// An error if the run was stopped or has failed.
    pub fn check(&self) -> Result<()> {
        if self.is_over() { Err(Error::interrupted()) } else { self.progress.check() }
    }

    pub fn finished(&self, number: ShardNumber, fingerprints: ShardFingerprints) {
        self.change(|outcome| outcome.shards[number.target][number.shard] = ShardState::Finished(fingerprints));
    }

    pub fn warn(&self, warning: String) {
        self.change(|outcome| outcome.warnings.push(warning));
    }

    /// Ends the run with an error; the first one is reported.
    pub fn fail(&self, error: Error) {
        self.over.store(true, Ordering::Relaxed);
        self.change(|outcome| {
            outcome.failure.get_or_insert(error);
        });
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// The fingerprints of all tensors of the first target in shard order and the sorted warnings, or the first error.
    pub fn end(self) -> Result<(ShardFingerprints, Vec<String>)> {
        let mut outcome = self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.warnings.sort();
        outcome.warnings.dedup();
        let fingerprints = |shard| match shard {
            ShardState::Finished(fingerprints) => fingerprints,
            ShardState::Missing | ShardState::OfOthers => Vec::new(),
        };
        let first = outcome.shards.into_iter().next().unwrap_or_default();
        match outcome.failure {
            Some(error) => Err(error),
            None => Ok((first.into_iter().flat_map(fingerprints).collect(), outcome.warnings)),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Outcome) -> T) -> T {
        change(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
