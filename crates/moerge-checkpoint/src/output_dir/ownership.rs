//! Checks that moerge made a work folder. Its name is predictable, so in a shared folder anybody
//! could create it first: a symbolic link to a valuable folder, or a folder of their own. Everything
//! in a work folder is later deleted or published, so nothing is touched before this check, which
//! follows no symbolic links.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use super::{LOCK, MARKER, MARKER_BYTES, PART, PLAN_ID};
use crate::error::{Error, Result, io_at};
use crate::storage::{FileKind, OutputStorage, link_facts_if_any};

/// The folders in a work folder.
const FOLDERS: [&str; 4] = ["model", "kept", "old", "trash"];
/// Those that contain only files.
const FLAT: [&str; 2] = ["model", "kept"];
/// How often the check is repeated if the work folder changes meanwhile.
const MAX_TRIES: u32 = 100;

/// Checks that `work` does not exist, or is a real folder with the marker, or contains only files that
/// are written before the marker, as after a crash at the very start.
pub(super) fn check(storage: &dyn OutputStorage, work: &Path) -> Result<()> {
    for _ in 0..MAX_TRIES {
        match link_facts_if_any(storage, work).map_err(io_at("look at", work))?.map(|facts| facts.kind) {
            None => return Ok(()),
            Some(FileKind::Dir) => {}
            Some(FileKind::Link) => return Err(foreign(work, "it is a symbolic link")),
            Some(_) => return Err(foreign(work, "it is not a folder")),
        }
        let names = match storage.list(work) {
            // Another process has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(io_at("list", work))?,
        };
        if names.iter().all(|name| precedes_marker(name)) {
            return Ok(());
        }
        if !names.iter().any(|name| name == MARKER) {
            return Err(foreign(work, &format!("it has no file `{MARKER}`")));
        }
        let marker = work.join(MARKER);
        match link_facts_if_any(storage, &marker).map_err(io_at("look at", &marker))? {
            None => continue,
            Some(facts) if facts.kind == FileKind::File && facts.len == MARKER_BYTES.len() as u64 => {}
            Some(_) => return Err(foreign(work, &format!("its `{MARKER}` is not a marker of moerge"))),
        }
        let mut bytes = [0; MARKER_BYTES.len()];
        match storage.open(&marker).and_then(|file| file.read_exact_at(&mut bytes, 0)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(io_at("read", &marker))?,
        }
        if bytes != MARKER_BYTES {
            return Err(foreign(work, &format!("its `{MARKER}` is not a marker of moerge")));
        }
        return Ok(());
    }
    Err(foreign(work, "it keeps changing"))
}

/// Checks, while the lock is held, that the work folder contains only what moerge puts there, and only
/// real files and folders.
pub(super) fn check_content(storage: &dyn OutputStorage, work: &Path) -> Result<()> {
    let list = |dir: &Path| storage.list(dir).map_err(io_at("list", dir));
    for name in list(work)? {
        let text = name.to_str().unwrap_or_default();
        let expected = if FOLDERS.contains(&text) {
            FileKind::Dir
        } else if [LOCK, MARKER, PLAN_ID].contains(&text.strip_suffix(PART).unwrap_or(text)) {
            FileKind::File
        } else {
            return Err(foreign(work, &format!("moerge did not put `{}` there", name.display())));
        };
        expect(storage, work, &work.join(&name), expected)?;
        if FLAT.contains(&text) {
            for inner in list(&work.join(&name))? {
                expect(storage, work, &work.join(&name).join(inner), FileKind::File)?;
            }
        }
    }
    Ok(())
}

fn expect(storage: &dyn OutputStorage, work: &Path, path: &Path, expected: FileKind) -> Result<()> {
    match link_facts_if_any(storage, path).map_err(io_at("look at", path))? {
        Some(facts) if facts.kind != expected => {
            let what = if expected == FileKind::Dir { "a folder" } else { "a regular file" };
            Err(foreign(work, &format!("{} is not {what}", path.display())))
        }
        _ => Ok(()),
    }
}

/// Files that may exist before the marker: the lock, and the unfinished marker.
fn precedes_marker(name: &OsStr) -> bool {
    name == LOCK || name.to_str().and_then(|name| name.strip_suffix(PART)) == Some(MARKER)
}

fn foreign(work: &Path, why: &str) -> Error {
    Error::NotAWorkFolder { work: work.to_owned(), why: why.to_owned() }
}
