//! The state that the workers of a run share: the plan, finished shards, and the first error.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use moerge_checkpoint::Fingerprint;

use crate::{
    error::{Error, Result},
    ops::ComputedValues,
    plan::{OutputPlan, OutputTensor},
    progress::Progress,
};

/// The tensors of a shard in order, with their fingerprints.
pub(super) type ShardFingerprints = Vec<(String, Fingerprint)>;

/// Shared by all workers of a run.
pub(super) struct Run<'a> {
    pub plan: &'a OutputPlan,
    pub computed: &'a dyn ComputedValues,
    pub tensors: HashMap<&'a str, &'a OutputTensor>,
    pub progress: &'a dyn Progress,
    /// Threads per tensor if there are fewer tensors than threads.
    pub threads_each: usize,
    /// Set after an error, so that workers stop.
    over: AtomicBool,
    outcome: Mutex<Outcome>,
}

struct Outcome {
    /// Per shard, its fingerprints once it is finished.
    finished: Vec<Option<ShardFingerprints>>,
    warnings: Vec<String>,
    failure: Option<Error>,
}

impl<'a> Run<'a> {
    /// `finished` has the shards of the layout that an earlier run finished.
    pub fn new(
        plan: &'a OutputPlan,
        computed: &'a dyn ComputedValues,
        finished: Vec<Option<ShardFingerprints>>,
        threads: usize,
        progress: &'a dyn Progress,
    ) -> Run<'a> {
        let tensors = plan.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        let outcome = Mutex::new(Outcome { finished, warnings: Vec::new(), failure: None });
        let threads_each = (threads / plan.tensors.len().max(1)).max(1);
        Run { plan, computed, tensors, progress, threads_each, over: AtomicBool::new(false), outcome }
    }

    /// The indices of unfinished shards.
    pub fn missing(&self) -> Vec<usize> {
        let numbered = |(number, shard): (usize, &Option<_>)| shard.is_none().then_some(number);
        self.change(|outcome| outcome.finished.iter().enumerate().filter_map(numbered).collect())
    }

    pub fn finished(&self, shard: usize, fingerprints: ShardFingerprints) {
        self.change(|outcome| outcome.finished[shard] = Some(fingerprints));
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

    /// The fingerprints of all tensors in shard order and the sorted warnings, or the first error.
    pub fn end(self) -> Result<(ShardFingerprints, Vec<String>)> {
        let mut outcome = self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.warnings.sort();
        match outcome.failure {
            Some(error) => Err(error),
            None => Ok((outcome.finished.into_iter().flatten().flatten().collect(), outcome.warnings)),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Outcome) -> T) -> T {
        change(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
