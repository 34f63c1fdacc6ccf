//! Executes a plan: several tensors at a time, each read once, fingerprinted and written chunk by chunk.
//!
//! A shard is the unit of work. It gets its final name in the work folder once it is durable, so a resumed run writes
//! only the shards without one. Memory is a few chunks per worker.

mod open_shard;
mod produce;
mod queue;
mod run;

use std::{sync::Arc, thread};

use moerge_checkpoint::{Fingerprint, OutputDir};

use produce::Buffers;
pub use produce::CHUNK;
use queue::Queue;
use run::Run;

use crate::{
    error::Result,
    ops::ComputedValues,
    plan::OutputPlan,
    progress::{Progress, Stage},
};

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Fingerprints of all tensors, in shard order.
    pub fingerprints: Vec<(String, Fingerprint)>,
    /// Warnings: copied tensors with NaN or infinities.
    pub warnings: Vec<String>,
}

/// Writes the shards of `plan` that `output` does not have yet.
pub fn write_shards(
    plan: &OutputPlan,
    computed: &dyn ComputedValues,
    output: &OutputDir,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Written> {
    let finished = output.finished_shards(&plan.layout)?;
    let shards = &plan.layout.shards;
    let done = finished.iter().zip(shards).filter(|(f, _)| f.is_some()).map(|(_, s)| s.file_len).sum();
    progress.start(Stage::Weights, plan.layout.total_file_bytes(), done);
    let run = Run::new(plan, computed, finished, threads, progress);
    write_missing(&run, output, threads);
    let (fingerprints, warnings) = run.end()?;
    let count = if shards.len() == 1 { "1 shard".to_owned() } else { format!("{} shards", shards.len()) };
    progress.finish(Stage::Weights, &format!("{} tensors in {count}", fingerprints.len()));
    Ok(Written { fingerprints, warnings })
}

fn write_missing(run: &Run<'_>, output: &OutputDir, threads: usize) {
    let queue = Queue::new(run, output, threads);
    let worker = || {
        let mut buffers = Buffers::default();
        let mut write_all = || -> Result<()> {
            while let Some((shard, index)) = queue.take()? {
                shard.write(index, &mut buffers)?;
                // The worker that drops the last handle wrote the last tensor.
                if let Some(shard) = Arc::into_inner(shard) {
                    shard.finish()?;
                }
            }
            Ok(())
        };
        if let Err(error) = write_all() {
            run.fail(error);
        }
    };
    thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, worker).ok();
        if (0..threads.clamp(1, run.tensors.len().max(1))).map_while(start).count() == 0 {
            // If the system refuses threads, this one does all the work.
            worker();
        }
    });
}
