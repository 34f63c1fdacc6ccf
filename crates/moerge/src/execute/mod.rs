//! Runs a plan: shard by shard, several tensors in flight, each read once, fingerprinted and written as it passes.
//!
//! A shard is the unit of work: it gets its final name in the staging folder when all of it is on the disk, and a run
//! that was stopped goes on with the first shard that has none. Memory is a few chunks per worker.

mod average;
mod change;
mod produce;

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use checkpoint::{Fingerprint, Fingerprinter, OutputDir, Shard, ShardWriter};

pub(crate) use average::Averaging;
pub(crate) use change::Change;
pub use produce::CHUNK;
use produce::{Buffers, produce};

use crate::{
    error::{Error, Result},
    plan::{OutputTensor, Plan, Step},
    progress::{Progress, Stage},
    router::Routers,
    verify::NonFinite,
};

/// Bytes written after which the disk is asked to catch up, so that the sync at a shard's end is short.
const FLUSH_EVERY: u64 = 128 << 20;

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Fingerprints of all tensors, in shard order.
    pub fingerprints: Vec<(String, Fingerprint)>,
    /// What to tell the user: tensors that hold values that are no numbers, as their source does.
    pub warnings: Vec<String>,
}

/// Writes every shard of `plan` that `output` does not have yet.
pub fn write_shards(
    plan: &Plan,
    routers: &Routers,
    output: &OutputDir,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Written> {
    let finished = output.finished_shards(&plan.layout)?;
    let shards = &plan.layout.shards;
    let done = finished.iter().zip(shards).filter(|(f, _)| f.is_some()).map(|(_, s)| s.file_len).sum();
    progress.start(Stage::Weights, plan.layout.total_file_bytes(), done);
    let tensors: HashMap<&str, &OutputTensor> = plan.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut all = Vec::with_capacity(plan.tensors.len());
    let warnings = Mutex::default();
    for (shard, finished) in shards.iter().zip(finished) {
        let fingerprints = match finished {
            Some(fingerprints) => fingerprints,
            None => ShardRun { plan, routers, tensors: &tensors, shard, warnings: &warnings, progress }
                .write(output, threads)?,
        };
        all.extend(fingerprints);
    }
    progress.finish(
        Stage::Weights,
        &format!(
            "{} tensors in {}",
            all.len(),
            if shards.len() == 1 { "1 shard".to_owned() } else { format!("{} shards", shards.len()) }
        ),
    );
    let mut warnings = warnings.into_inner().unwrap_or_else(PoisonError::into_inner);
    warnings.sort();
    Ok(Written { fingerprints: all, warnings })
}

struct ShardRun<'a> {
    plan: &'a Plan,
    routers: &'a Routers,
    tensors: &'a HashMap<&'a str, &'a OutputTensor>,
    shard: &'a Shard,
    warnings: &'a Mutex<Vec<String>>,
    progress: &'a dyn Progress,
}

impl ShardRun<'_> {
    fn write(&self, output: &OutputDir, threads: usize) -> Result<Vec<(String, Fingerprint)>> {
        let writer = ShardWriter::create(output, self.shard)?;
        self.progress.advance(Stage::Weights, self.shard.header.len() as u64);
        let count = self.shard.tensors.len();
        let next = AtomicUsize::new(0);
        let unsynced = AtomicU64::new(0);
        let over = AtomicBool::new(false);
        let results: Mutex<Vec<Option<Fingerprint>>> = Mutex::new(vec![None; count]);
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let fail = |error: Error| {
            over.store(true, Ordering::Relaxed);
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        };
        let worker = || {
            let mut buffers = Buffers::default();
            while !over.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                match self.write_tensor(index, &writer, &mut buffers, &over, &unsynced) {
                    Ok(fingerprint) => {
                        results.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(fingerprint)
                    }
                    Err(error) => fail(error),
                }
            }
        };
        thread::scope(|scope| {
            let start = |_| thread::Builder::new().spawn_scoped(scope, worker).ok();
            let workers: Vec<_> = (0..threads.clamp(1, count.max(1))).map_while(start).collect();
            if workers.is_empty() {
                // The system gives no threads; this one does it alone.
                worker();
            }
            while !workers.iter().all(|w| w.is_finished()) {
                if unsynced.load(Ordering::Relaxed) < FLUSH_EVERY {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                }
                unsynced.store(0, Ordering::Relaxed);
                if let Err(error) = writer.flush() {
                    fail(error.into());
                }
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        self.check_sources()?;
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let names = self.shard.tensors.iter().map(|p| p.spec.name.clone());
        let fingerprints: Vec<_> = names.zip(results.into_iter().flatten()).collect();
        writer.finish(&fingerprints)?;
        Ok(fingerprints)
    }

    fn write_tensor(
        &self,
        index: usize,
        writer: &ShardWriter,
        buffers: &mut Buffers,
        over: &AtomicBool,
        unsynced: &AtomicU64,
    ) -> Result<Fingerprint> {
        let name = self.shard.tensors[index].spec.name.as_str();
        let tensor = self.tensors.get(name).ok_or_else(|| Error::input(format!("no step makes {name}")))?;
        let mut fingerprint = Fingerprinter::new();
        let mut offset = 0;
        let mut non_finite = NonFinite::default();
        produce(tensor, self.routers, self.plan.seed, buffers, &mut |bytes| {
            if over.load(Ordering::Relaxed) {
                return Err(Error::interrupted());
            }
            self.progress.check()?;
            fingerprint.update(bytes);
            non_finite.count(tensor.dtype, bytes);
            writer.write(index, offset, bytes)?;
            offset += bytes.len() as u64;
            unsynced.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.progress.advance(Stage::Weights, bytes.len() as u64);
            Ok(())
        })?;
        if non_finite.any() {
            self.not_finite(tensor, non_finite)?;
        }
        Ok(fingerprint.finish())
    }

    /// What a source holds is copied to the bit, and said; what is made here is not written with such values.
    fn not_finite(&self, tensor: &OutputTensor, found: NonFinite) -> Result<()> {
        let from = tensor.step.reads().first().map_or_else(String::new, |view| view.file.path.display().to_string());
        if !matches!(tensor.step, Step::Copy(_)) {
            return Err(Error::input(format!("{} came out with {found}", tensor.name)).fact("made from", from).hint(
                "the weights, their adapter, or the recipe's noise_scale or residual_scale are too large, or NaN",
            ));
        }
        let warning = format!("{} has {found}, as in {from}: what goes through it is lost", tensor.name);
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
        Ok(())
    }

    /// A source that was written to while this shard was copied from it spoils the shard.
    fn check_sources(&self) -> Result<()> {
        let tensors = self.shard.tensors.iter().filter_map(|p| self.tensors.get(p.spec.name.as_str()));
        let mut files: Vec<_> = tensors.flat_map(|t| t.step.reads()).map(|view| &view.file).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        files.into_iter().try_for_each(|file| file.check_unchanged().map_err(Error::from))
    }
}
