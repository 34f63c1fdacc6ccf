//! Opens a work folder for one of several processes that write shards of the same plan.
//!
//! The first process locks the folder exclusively, as a whole build does, and prepares it. Then all share the lock, so that
//! nobody replaces or publishes the folder meanwhile.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use super::{Found, LOCK, OutputDir, PART, PLAN_ID, ownership, read_if_any, recover};
use crate::error::{Error, Result, io_at};
use crate::storage::OutputStorage;

/// How often, and how long apart, the lock is tried while another process prepares the folder.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn open(
    storage: &Arc<dyn OutputStorage>,
    out: &Path,
    plan_id: &str,
    overwrite: bool,
) -> Result<(OutputDir, Found)> {
    let mut prepared = None;
    for attempt in 0..TRIES {
        if attempt > 0 {
            sleep(PAUSE);
        }
        match recover::open(storage, out, None, plan_id, overwrite) {
            Ok((output, Found::AlreadyPublished)) => return Ok((output, Found::AlreadyPublished)),
            // Its lock ends here.
            Ok((_, found)) => prepared = prepared.or(Some(found)),
            Err(Error::Locked { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(output) = join(storage, out, plan_id, overwrite)? {
            return Ok((output, prepared.unwrap_or(Found::Resumed)));
        }
    }
    Err(Error::Locked { out: out.to_owned() })
}

/// The folder with a shared lock, if it is that of the plan and nobody holds it exclusively.
fn join(storage: &Arc<dyn OutputStorage>, out: &Path, plan_id: &str, overwrite: bool) -> Result<Option<OutputDir>> {
    let out = storage.resolve(out).map_err(io_at("follow the link", out))?;
    let (parent, work) = recover::beside(&out)?;
    ownership::check(&**storage, &work)?;
    let path = work.join(LOCK);
    let lock = match storage.lock_shared(&path) {
        Ok(Some(lock)) => lock,
        Ok(None) => return Ok(None),
        // A whole build has just removed the folder.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("lock", &path, error)),
    };
    let (storage, published, flat, ending) = (storage.clone(), false, None, unique_ending());
    let (files, lock) = (None, Some(lock));
    let output = OutputDir { storage, out, parent, work, files, overwrite, ending, published, flat, _lock: lock };
    let same_plan = output.read_if_any(&output.work.join(PLAN_ID))?.as_deref() == Some(plan_id.as_bytes());
    let prepared = output.is_dir(&output.model_dir())? && output.is_dir(&output.kept_dir())?;
    Ok((same_plan && prepared).then_some(output))
}

pub(super) fn unfinished(storage: &dyn OutputStorage, out: &Path) -> Result<Option<String>> {
    let out = storage.resolve(out).map_err(io_at("follow the link", out))?;
    let (_, work) = recover::beside(&out)?;
    if !storage.is_flat(&out) {
        ownership::check(storage, &work)?;
    }
    let id = read_if_any(storage, &work.join(PLAN_ID))?;
    Ok(id.map(|id| String::from_utf8_lossy(&id).into_owned()))
}

/// An ending that no other process has, on any machine. It never appears in the output.
pub(super) fn unique_ending() -> String {
    format!(".{:016x}{PART}", RandomState::new().build_hasher().finish())
}
