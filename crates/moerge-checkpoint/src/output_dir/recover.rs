//! Opens an output folder: locks it, repairs what an earlier run left, and decides whether to resume.
//! The parent module lists the states.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    Found, LOCK, MARKER, MARKER_BYTES, OutputDir, PART, PLAN_ID, PlacedFile, check_name, ownership, write_durably,
};
use crate::error::{Error, Result, io_at};
use crate::storage::{FileKind, Lock, OutputStorage, facts_if_any, link_facts_if_any};

pub(super) fn open(
    storage: &Arc<dyn OutputStorage>,
    out: &Path,
    names: Option<&[String]>,
    plan_id: &str,
    overwrite: bool,
) -> Result<(OutputDir, Found)> {
    // A link to a folder stands for that folder, which is replaced where it is.
    let out = storage.resolve(out).map_err(io_at("follow the link", out))?;
    let (parent, work) = beside(&out)?;
    let files = names.map(|names| placed(names, &out, &parent));
    if link_facts_if_any(&**storage, &work).map_err(io_at("look at", &work))?.is_none() {
        // Check first, so that a refused run leaves nothing behind. With a work folder, `recover` checks.
        check_out(&**storage, &out, &parent, files.as_deref(), overwrite)?;
    }
    let lock = lock_work(&**storage, &work)?.ok_or_else(|| Error::Locked { out: out.clone() })?;
    let storage = storage.clone();
    // Check again: with the lock held, nobody else changes it, and all of it can be checked.
    ownership::check(&*storage, &work)?;
    ownership::check_content(&*storage, &work)?;
    if link_facts_if_any(&*storage, &work.join(MARKER)).map_err(io_at("look at", &work))?.is_none() {
        write_durably(&*storage, &work, MARKER, MARKER_BYTES)?;
    }
    let (published, flat, ending, lock) = (false, None, PART.to_owned(), Some(lock));
    let mut output = OutputDir { storage, out, parent, work, files, overwrite, ending, published, flat, _lock: lock };
    let found = recover(&mut output, plan_id)?;
    Ok((output, found))
}

/// Creates the work folder if necessary and locks it.
fn lock_work(storage: &dyn OutputStorage, work: &Path) -> Result<Option<Lock>> {
    let path = work.join(LOCK);
    let mut tries = 0;
    loop {
        ownership::check(storage, work)?;
        create_durably(storage, work)?;
        tries += 1;
        match storage.lock(&path) {
            // The previous holder has just removed the folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 100 => {}
            other => return other.map_err(io_at("lock", &path)),
        }
    }
}

/// Recovers the work folder, which is locked.
fn recover(output: &mut OutputDir, plan_id: &str) -> Result<Found> {
    restore_old(output)?;
    let earlier = output.read_if_any(&output.work.join(PLAN_ID))?;
    let same_plan = earlier.as_deref() == Some(plan_id.as_bytes());
    let building = output.is_dir(&output.model_dir())?;
    if same_plan && output.is_published(building)? {
        output.published = true;
        return Ok(Found::AlreadyPublished);
    }
    if building {
        take_back(output)?;
    }
    if let Err(refused) = output.check_out() {
        if earlier.is_none() {
            // No build to keep, so clean up. The refusal matters more than an error here.
            let _ = output.remove_work();
        }
        return Err(refused);
    }
    if same_plan && building {
        create_durably(&*output.storage, &output.kept_dir())?;
        return Ok(Found::Resumed);
    }
    start_afresh(output, plan_id)?;
    let discarded = earlier.is_some() && building && !same_plan;
    Ok(if discarded { Found::OtherPlanDiscarded } else { Found::Fresh })
}

/// Undoes the first half of a publication that was interrupted between its two renames.
fn restore_old(output: &OutputDir) -> Result<()> {
    let old = output.work.join("old");
    if output.facts(&old)?.is_none() {
        return Ok(());
    }
    if output.facts(&output.out)?.is_none() {
        if !output.is_dir(&output.model_dir())? {
            // Published, and then removed by someone. With the old output restored it must not look
            // published.
            output.forget_plan()?;
        }
        output.rename(&old, &output.out)?;
        output.sync_dir(&output.parent)?;
        return output.sync_dir(&output.work);
    }
    if output.is_dir(&output.model_dir())? {
        // Someone put something else at OUT. Remove neither it nor the old output.
        return Err(Error::OutputInTheWay { out: output.out.clone(), aside: old });
    }
    Ok(())
}

/// Undoes the publication of several files that was interrupted between its renames.
fn take_back(output: &OutputDir) -> Result<()> {
    let (mut moved, mut all) = (Vec::new(), true);
    for line in output.announced()? {
        let Some(name) = line.splitn(3, ' ').nth(2).filter(|name| check_name(name).is_ok()) else { return Ok(()) };
        let file = PlacedFile { name: name.to_owned(), place: output.parent.join(name) };
        match output.is_moved(&line, &file)? {
            true => moved.push(file),
            false => all = false,
        }
    }
    if all {
        return Ok(());
    }
    // The first goes first, so that it is never found without the others.
    for PlacedFile { name, place } in &moved {
        output.rename(place, &output.model_dir().join(name))?;
        output.sync_dir(&output.parent)?;
    }
    output.sync_dir(&output.model_dir())
}

fn start_afresh(output: &OutputDir, plan_id: &str) -> Result<()> {
    // If `old` exists, OUT is complete; see `restore_old`.
    output.retire_old()?;
    output.forget_plan()?;
    output.empty_work()?;
    create_durably(&*output.storage, &output.model_dir())?;
    create_durably(&*output.storage, &output.kept_dir())?;
    write_durably(&*output.storage, &output.work, PLAN_ID, plan_id.as_bytes())
}

impl OutputDir {
    /// Removes unfinished files of earlier runs.
    pub(super) fn sweep(&self) -> Result<()> {
        for dir in [self.model_dir(), self.kept_dir()] {
            for name in self.list(&dir)? {
                if name.as_encoded_bytes().ends_with(PART.as_bytes()) {
                    let path = dir.join(name);
                    self.storage.remove_file(&path).map_err(io_at("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    /// Whether something at OUT is to be replaced.
    pub(super) fn check_out(&self) -> Result<bool> {
        check_out(&*self.storage, &self.out, &self.parent, self.files.as_deref(), self.overwrite)
    }

    /// Whether OUT is what the plan of the work folder makes.
    fn is_published(&self, building: bool) -> Result<bool> {
        let Some(files) = &self.files else { return Ok(!building && self.is_dir(&self.out)?) };
        if building {
            let lines = self.announced()?;
            let moved = lines.iter().zip(files).map(|(line, file)| self.is_moved(line, file));
            return Ok(lines.len() == files.len() && moved.collect::<Result<Vec<_>>>()?.iter().all(|moved| *moved));
        }
        let kinds = files.iter().map(|file| Ok(self.facts(&file.place)?.map(|facts| facts.kind)));
        Ok(kinds.collect::<Result<Vec<_>>>()?.iter().all(|kind| *kind == Some(FileKind::File)))
    }
}

/// The files of an output: a single one is OUT, several lie where it would.
pub(super) fn placed(names: &[String], out: &Path, parent: &Path) -> Vec<PlacedFile> {
    let place = |name: &String| if names.len() == 1 { out.to_owned() } else { parent.join(name) };
    names.iter().map(|name| PlacedFile { name: name.clone(), place: place(name) }).collect()
}

/// Whether there is something at `out`, if it may be replaced; else why not.
fn check_out(
    storage: &dyn OutputStorage,
    out: &Path,
    parent: &Path,
    files: Option<&[PlacedFile]>,
    overwrite: bool,
) -> Result<bool> {
    if let Some(files) = files {
        let there = files.iter().map(|file| check_file(storage, &file.place, overwrite));
        return Ok(there.collect::<Result<Vec<_>>>()?.contains(&true));
    }
    let Some(facts) = facts_if_any(storage, out).map_err(io_at("look at", out))? else {
        return Ok(false);
    };
    let out = out.to_owned();
    if facts.kind != FileKind::Dir {
        return Err(Error::OutputIsFile { out });
    }
    let around = storage.facts(parent).map_err(io_at("look at", parent))?;
    if around.device != facts.device {
        return Err(Error::OutputIsMountPoint { out });
    }
    if !overwrite && !storage.list(&out).map_err(io_at("list", &out))?.is_empty() {
        return Err(Error::OutputExists { out });
    }
    Ok(true)
}

/// The same of a file.
pub(super) fn check_file(storage: &dyn OutputStorage, place: &Path, overwrite: bool) -> Result<bool> {
    let out = place.to_owned();
    match facts_if_any(storage, place).map_err(io_at("look at", place))?.map(|facts| facts.kind) {
        None => Ok(false),
        Some(FileKind::File) if overwrite => Ok(true),
        Some(FileKind::File) => Err(Error::OutputFileExists { out }),
        Some(_) => Err(Error::OutputIsNoFile { out }),
    }
}

/// The parent folder of `out`, and the work folder in it.
pub(super) fn beside(out: &Path) -> Result<(PathBuf, PathBuf)> {
    let Some(name) = out.file_name() else {
        return Err(Error::OutputUnnamed { out: out.to_owned() });
    };
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut work_name = std::ffi::OsString::from(".");
    work_name.push(name);
    work_name.push(".moerge-build");
    Ok((parent.to_owned(), parent.join(work_name)))
}

/// Creates a folder and its parents durably.
fn create_durably(storage: &dyn OutputStorage, dir: &Path) -> Result<()> {
    let is_dir = |path: &Path| {
        let facts = facts_if_any(storage, path).map_err(io_at("look at", path))?;
        Ok(facts.is_some_and(|facts| facts.kind == FileKind::Dir))
    };
    let mut created = Vec::new();
    let mut above = Some(dir);
    while let Some(path) = above.filter(|path| !path.as_os_str().is_empty()) {
        if is_dir(path)? {
            break;
        }
        created.push(path);
        above = path.parent();
    }
    storage.create_dir_all(dir).map_err(io_at("create", dir))?;
    for path in created.into_iter().rev() {
        let holder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        storage.sync_dir(holder).map_err(io_at("sync", holder))?;
    }
    Ok(())
}
