//! A model that is not on this machine: where it was looked for, and what to do.

use std::path::{Path, PathBuf};

use super::HubId;
use crate::{
    error::{Cause, Error},
    suggest::{did_you_mean, printable, shorten},
};

/// A model or an adapter that was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotHere {
    /// The part of the reference that was looked for, as written.
    pub written: String,
    /// What that means.
    pub why: Why,
    /// The places that were looked at, each with what was found there.
    pub looked: Vec<(PathBuf, String)>,
    /// What to do besides a download.
    pub hints: Vec<String>,
}

/// Why a model is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It may be on the Hub and has not been downloaded.
    NotDownloaded(HubId),
    /// It is not an id of the Hub, so the folder is missing.
    Missing,
}

impl From<NotHere> for Error {
    /// The error for a person; the caller points at the place in the recipe.
    fn from(not_here: NotHere) -> Self {
        let written = shorten(&not_here.written);
        let mut error = match &not_here.why {
            Why::NotDownloaded(_) => Error::input(format!("{written} is not downloaded yet")),
            Why::Missing => Error::input(format!("there is no model folder {written}")),
        };
        for (place, found) in &not_here.looked {
            error = error.fact("looked at", format!("{}: {found}", printable(&place.display().to_string())));
        }
        for hint in &not_here.hints {
            error = error.hint(hint.clone());
        }
        match &not_here.why {
            Why::NotDownloaded(id) => {
                error.hint(format!("moerge pull {id}")).cause(Cause::NotDownloaded { id: id.to_string() })
            }
            Why::Missing => error.cause(Cause::ModelNotFound),
        }
    }
}

/// Most names that are looked through for a likely one.
const MOST_NEIGHBOURS: usize = 10_000;

/// The folder beside `place` with the nearest name, as what the writer of `place` may have meant.
pub(super) fn neighbour(place: &Path) -> Option<String> {
    let wanted = place.file_name()?.to_str()?;
    let parent = place.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(parent).ok()?.take(MOST_NEIGHBOURS);
    let folders = entries.filter_map(|entry| entry.ok().filter(|e| e.path().is_dir()));
    let mut names: Vec<String> = folders.filter_map(|folder| folder.file_name().into_string().ok()).collect();
    names.sort();
    did_you_mean(wanted, names.iter().map(String::as_str)).map(str::to_owned)
}
