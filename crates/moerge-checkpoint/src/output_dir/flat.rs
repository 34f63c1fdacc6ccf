//! An output in an object store. Nothing can be renamed or locked there, so OUT itself is built, and readers see nothing of
//! it because the file that they all start from, `config.json` (of an adapter, `adapter_config.json`), is written last.
//! The work area lies beside OUT, as on a disk:
//!
//! ```text
//! plan-id     identifies the plan. It is created by one process alone; another plan is refused
//! prepared    written when OUT holds nothing of an earlier output any more
//! kept/       routers, fingerprints of finished shards
//! held-back/  config.json until the model is published
//! ```
//!
//! Where OUT is a file, its upload is completed last: it appears whole, and replaces an earlier one in the same step. If a
//! model is split into several, this applies to the first, from which readers start; the others appear before, and what
//! an earlier output had of them goes first.
//!
//! Several processes may build the same plan at once, since they write equal bytes. The states that a cut can leave:
//! * no `plan-id`: there is no build. What else lies in the work area is removed by the next one.
//! * `plan-id` without `prepared`: OUT may hold some of an earlier output that is being replaced, without its
//!   `config.json`, which goes first. The next run empties OUT again, unless another process may be about to: a claim
//!   is believed for ten seconds.
//! * both, without `config.json` in OUT: an unfinished build. What it wrote is whole, as objects are.
//! * both, with the `config.json` that was held back: published. The work area is removed, `prepared` last: alone it
//!   means nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{FINGERPRINTS, Found, OutputDir, PART, PLAN_ID, PlacedFile, check_name, recover, write_through};
use crate::error::{Error, Result, io_at};
use crate::names::{ADAPTER_CONFIG_FILE, CONFIG_FILE};
use crate::storage::{FileKind, OutputStorage, WriteAt, facts_if_any};

/// The folder of files that are written last.
pub(super) const HELD_BACK: &str = "held-back";
/// Files without which nobody opens a model, or an adapter.
const MANIFESTS: [&str; 2] = [CONFIG_FILE, ADAPTER_CONFIG_FILE];
const PREPARED: &str = "prepared";
/// How long a claim of OUT without a sign of life is believed. A process that prepares OUT renews its claim.
const PREPARING: Duration = Duration::from_secs(10);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// A claim that is as old as this is nobody's, however wrong the clocks are: stores refuse requests from such clocks.
const LONG_AGO: Duration = Duration::from_secs(15 * 60);

/// What an output in an object store has besides its work area.
#[derive(Debug)]
pub(super) struct Flat {
    plan_id: String,
    pub held: Held,
}

/// A file that is uploaded but for the last call, which makes it appear, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<Mutex<Option<HeldFile>>>);

struct HeldFile {
    path: PathBuf,
    file: Arc<dyn WriteAt>,
}

impl Held {
    /// Leaves the last call for `file` at `path` to the publication of the output.
    pub fn hold(&self, path: PathBuf, file: Arc<dyn WriteAt>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(HeldFile { path, file });
    }

    fn complete(&self) -> Result<()> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.map_or(Ok(()), |held| held.file.sync().map_err(io_at("finish", &held.path)))
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

/// Whether readers start from the file of this name.
pub(super) fn is_manifest(name: &str) -> bool {
    MANIFESTS.contains(&name)
}

pub(super) fn open(
    storage: &Arc<dyn OutputStorage>,
    out: &Path,
    names: Option<&[String]>,
    plan_id: &str,
    overwrite: bool,
    ending: &str,
) -> Result<(OutputDir, Found)> {
    let (parent, work) = recover::beside(out)?;
    if !storage.is_flat(&parent) {
        return Err(Error::OutputUnnamed { out: out.to_owned() });
    }
    let (storage, out, ending) = (storage.clone(), out.to_owned(), ending.to_owned());
    let files = names.map(|names| recover::placed(names, &out, &parent));
    let flat = Some(Flat { plan_id: plan_id.to_owned(), held: Held::default() });
    let (published, lock) = (false, None);
    let mut output = OutputDir { storage, out, parent, work, files, overwrite, ending, published, flat, _lock: lock };
    let found = begin(&mut output, plan_id)?;
    Ok((output, found))
}

/// Makes the build of `plan_id` the one at OUT, or joins it.
fn begin(output: &mut OutputDir, plan_id: &str) -> Result<Found> {
    let place = output.work.join(PLAN_ID);
    let there = facts_if_any(&*output.storage, &output.out).map_err(io_at("look at", &output.out))?;
    if output.files.is_none() && there.is_some_and(|facts| facts.kind == FileKind::File) {
        return Err(Error::OutputIsFile { out: output.out.clone() });
    }
    let claimed = || output.storage.create_new(&place, plan_id.as_bytes()).map_err(io_at("write", &place));
    match output.read_if_any(&place)? {
        None => {
            refuse_existing(output)?;
            if claimed()? {
                prepare(output)?;
                return Ok(Found::Fresh);
            }
            // Another process was faster.
            check_plan(output)?;
            resume(output, plan_id)
        }
        Some(earlier) if earlier == plan_id.as_bytes() => resume(output, plan_id),
        Some(_) if output.overwrite => {
            // Nobody is to take the unfinished output of the other plan for one of this plan.
            output.remove_file_if_any(&output.work.join(PREPARED))?;
            claim_again(output)?;
            prepare(output)?;
            Ok(Found::OtherPlanDiscarded)
        }
        Some(_) => Err(Error::OtherPlanUnfinished { out: output.out.clone(), work: output.work.clone() }),
    }
}

/// Goes on with a build that this or another process began.
fn resume(output: &mut OutputDir, plan_id: &str) -> Result<Found> {
    // Not all that wait for a process that was killed take over at once: the others see the new claim.
    let patience = PREPARING + PAUSE * (std::process::id() % 50);
    let mut claim = claimed_at(output)?;
    let mut seen = Instant::now();
    loop {
        if output.exists(&output.work.join(PREPARED))? {
            check_plan(output)?;
            // An earlier single file stays until the new one replaces it.
            if let Some([file]) = output.files.as_deref() {
                recover::check_file(&*output.storage, &file.place, output.overwrite)?;
            }
            return Ok(match published(output)? {
                true => {
                    output.published = true;
                    Found::AlreadyPublished
                }
                false => Found::Resumed,
            });
        }
        match claimed_at(output)? {
            // Published or discarded meanwhile.
            None => return begin(output, plan_id),
            Some(at) if claim != Some(at) => (claim, seen) = (Some(at), Instant::now()),
            Some(at) if is_long_ago(at) || seen.elapsed() > patience => break,
            Some(_) => sleep(PAUSE),
        }
    }
    // Whoever was preparing it was killed.
    check_plan(output)?;
    refuse_existing(output)?;
    claim_again(output)?;
    prepare(output)?;
    Ok(Found::Resumed)
}

/// When OUT was claimed, in nanoseconds since 1970 by the store's clock.
fn claimed_at(output: &OutputDir) -> Result<Option<i64>> {
    let place = output.work.join(PLAN_ID);
    let facts = facts_if_any(&*output.storage, &place).map_err(io_at("look at", &place))?;
    Ok(facts.map(|facts| facts.modified_ns))
}

fn is_long_ago(nanoseconds: i64) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.abs_diff(Duration::from_nanos(nanoseconds.max(0) as u64)) > LONG_AGO
}

/// Writes the plan of this process as the claim, over that of whoever was there.
fn claim_again(output: &OutputDir) -> Result<()> {
    let plan_id = output.flat.as_ref().map(|flat| flat.plan_id.as_bytes()).unwrap_or_default();
    write_through(&*output.storage, &output.work, PLAN_ID, PART, plan_id)
}

/// Refuses an OUT with something in it that is not to be replaced.
fn refuse_existing(output: &OutputDir) -> Result<()> {
    if output.files.is_some() {
        return output.check_out().map(drop);
    }
    if !output.overwrite && !output.list(&output.out)?.is_empty() {
        return Err(Error::OutputExists { out: output.out.clone() });
    }
    Ok(())
}

/// Removes what earlier builds left in OUT and in the work area.
fn prepare(output: &OutputDir) -> Result<()> {
    output.remove_file_if_any(&output.work.join(PREPARED))?;
    let mut claimed = Instant::now();
    for path in earlier_output(output)?.iter().chain(&earlier_work(output)?) {
        output.remove_file_if_any(path)?;
        if claimed.elapsed() > PREPARING / 4 {
            claim_again(output)?;
            claimed = Instant::now();
        }
    }
    write_through(&*output.storage, &output.work, PREPARED, PART, b"\n")
}

/// The files in OUT, first those that readers start from.
fn earlier_output(output: &OutputDir) -> Result<Vec<PathBuf>> {
    if let Some(files) = &output.files {
        return earlier_files(output, files);
    }
    let names = output.list(&output.out)?;
    let (first, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| MANIFESTS.iter().any(|own| **name == **own));
    Ok(first.into_iter().chain(others).map(|name| output.out.join(name)).collect())
}

/// The files of an earlier output that is split into several, and those that an unfinished build wrote. A single file stays
/// until it is replaced.
fn earlier_files(output: &OutputDir, files: &[PlacedFile]) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> =
        if files.len() > 1 { files.iter().map(|file| file.place.clone()).collect() } else { Vec::new() };
    for kept in output.list(&output.work.join("kept"))? {
        let shard = kept.to_str().and_then(|kept| kept.strip_suffix(FINGERPRINTS));
        paths.extend(shard.filter(|name| check_name(name).is_ok()).map(|name| output.parent.join(name)));
    }
    Ok(paths)
}

/// The files in the folders of the work area.
fn earlier_work(output: &OutputDir) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for folder in ["kept", HELD_BACK] {
        let dir = output.work.join(folder);
        paths.extend(output.list(&dir)?.iter().map(|name| dir.join(name)));
    }
    Ok(paths)
}

/// Whether what was held back is in OUT. A GGUF file names the plan that made it.
fn published(output: &OutputDir) -> Result<bool> {
    if output.files.is_some() {
        return Ok(false);
    }
    for name in MANIFESTS {
        if let Some(there) = output.read_if_any(&output.out.join(name))? {
            // After the first steps of the cleaning up, there is nothing to compare with.
            return match output.read_if_any(&output.unpublished(name))? {
                Some(own) if own != there => Err(Error::OutputExists { out: output.out.clone() }),
                _ => Ok(true),
            };
        }
    }
    Ok(false)
}

/// Writes what was held back, which publishes the model, and removes the work area.
pub(super) fn publish(mut output: OutputDir) -> Result<()> {
    if !output.published {
        check_plan(&output)?;
        output.flat.iter().try_for_each(|flat| flat.held.complete())?;
        for name in MANIFESTS.iter().filter(|_| output.files.is_none()) {
            let Some(bytes) = output.read_if_any(&output.unpublished(name))? else { continue };
            let place = output.out.join(name);
            let created = output.storage.create_new(&place, &bytes).map_err(io_at("write", &place))?;
            // Another process of the same plan may have been faster.
            if !created && output.read_if_any(&place)?.as_deref() != Some(&bytes) {
                return Err(Error::OutputExists { out: output.out.clone() });
            }
        }
        output.published = true;
    }
    remove_work(&output).map_err(|problem| Error::Cleanup {
        out: output.out.clone(),
        work: output.work.clone(),
        problem: Box::new(problem),
    })
}

/// Abandons the build: what it wrote is removed. An earlier single file stays.
pub(super) fn discard(output: &OutputDir) -> Result<()> {
    earlier_output(output)?.iter().try_for_each(|path| output.remove_file_if_any(path))?;
    remove_work(output)
}

fn remove_work(output: &OutputDir) -> Result<()> {
    earlier_work(output)?.iter().try_for_each(|path| output.remove_file_if_any(path))?;
    output.remove_file_if_any(&output.work.join(PLAN_ID))?;
    output.remove_file_if_any(&output.work.join(PREPARED))
}

/// Checks that the build at OUT is still that of the plan.
fn check_plan(output: &OutputDir) -> Result<()> {
    match output.read_if_any(&output.work.join(PLAN_ID))? {
        Some(id) if output.flat.as_ref().is_some_and(|own| own.plan_id.as_bytes() == id) => Ok(()),
        _ => Err(Error::TakenOver { out: output.out.clone() }),
    }
}
