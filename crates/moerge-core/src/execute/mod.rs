//! Executes a plan: several tensors at a time, each read once, fingerprinted and written chunk by chunk.
//!
//! Several plans of the same tensors are executed in one pass: rows are read and computed once, and encoded for each.
//!
//! A shard is the unit of work. It gets its final name in the work folder once it is durable, so a resumed run writes
//! only the shards without one. Memory is a few chunks per worker.

mod open_shard;
mod produce;
mod queue;
mod run;
mod work;

use std::{convert::Infallible, sync::Arc};

use moerge_checkpoint::{Fingerprint, OutputDir, workers::try_map_with};

use produce::Buffers;
pub use produce::CHUNK;
use queue::Queue;
use run::{Run, ShardFingerprints, ShardState};

use crate::{
    error::Result,
    ops::ComputedValues,
    plan::{OutputPlan, Part},
    progress::{Progress, Stage},
};

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Fingerprints of all tensors of the shards that were to be written, in shard order.
    pub fingerprints: Vec<(String, Fingerprint)>,
    /// Warnings: copied tensors with NaN or infinities.
    pub warnings: Vec<String>,
}

/// A plan and where its shards are written.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The plan.
    pub plan: &'a OutputPlan,
    /// Its work folder.
    pub output: &'a OutputDir,
}

/// Writes the shards of `plan` that `output` does not have yet; of a `part`, only its own.
///
/// # Errors
/// A source cannot be read or changed, a computed value is NaN, a file cannot be written, or the run was stopped.
pub fn write_shards(
    plan: &OutputPlan,
    computed: &dyn ComputedValues,
    output: &OutputDir,
    part: Option<Part>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Written> {
    let (fingerprints, warnings) = write(&[Target { plan, output }], computed, part, threads, progress)?;
    Ok(Written { fingerprints, warnings })
}

/// Writes the shards of all `targets` that they do not have yet, in one pass over the weights. A name stands for the same
/// tensor in all plans, which differ in encodings and in shards. Returns warnings.
///
/// # Errors
/// A source cannot be read or has changed, a computed value is not a number, a shard cannot be written, or the user
/// stops the run.
pub fn write_together(
    targets: &[Target<'_>],
    computed: &dyn ComputedValues,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<String>> {
    write(targets, computed, None, threads, progress).map(|(_, warnings)| warnings)
}

fn write(
    targets: &[Target<'_>],
    computed: &dyn ComputedValues,
    part: Option<Part>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<(ShardFingerprints, Vec<String>)> {
    let states = targets.iter().map(|target| ShardState::of(target, part)).collect::<Result<Vec<_>>>()?;
    let wanted = || {
        let shards = targets.iter().flat_map(|target| &target.plan.layout.shards);
        shards.zip(states.iter().flatten()).filter(|(_, state)| !matches!(state, ShardState::OfOthers))
    };
    let bytes = wanted().map(|(shard, _)| shard.file_len).sum();
    let done = wanted().filter(|(_, state)| matches!(state, ShardState::Finished(_))).map(|(shard, _)| shard.file_len);
    progress.start(Stage::Weights, bytes, done.sum());
    let shards = wanted().count();
    let run = Run::new(targets, computed, states, threads, progress);
    write_missing(&run, threads);
    let (fingerprints, warnings) = run.end()?;
    let count = if shards == 1 { "1 shard".to_owned() } else { format!("{shards} shards") };
    progress.finish(Stage::Weights, &format!("{} tensors in {count}", fingerprints.len()));
    Ok((fingerprints, warnings))
}

fn write_missing(run: &Run<'_>, threads: usize) {
    let queue = Queue::new(run, threads);
    let workers = vec![(); threads.clamp(1, run.tensors().max(1))];
    let work = |buffers: &mut Buffers, (): &()| -> std::result::Result<(), Infallible> {
        if let Err(error) = write_until_empty(run, &queue, buffers) {
            run.fail(error);
        }
        Ok(())
    };
    let Ok(_) = try_map_with(&workers, workers.len(), Buffers::default, work);
}

/// What each worker does.
fn write_until_empty(run: &Run<'_>, queue: &Queue<'_>, buffers: &mut Buffers) -> Result<()> {
    while let Some(work) = queue.take()? {
        work.write(run, buffers)?;
        for (shard, _) in work.places {
            // The worker that drops the last handle wrote the last tensor.
            if let Some(shard) = Arc::into_inner(shard) {
                shard.finish()?;
            }
        }
    }
    Ok(())
}
