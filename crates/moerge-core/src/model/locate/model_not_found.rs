//! A model that is not on this machine: where it was looked for, and what to do.

use std::path::{Path, PathBuf};

use moerge_checkpoint::{Kind, ReadStorage};

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
pub(super) fn neighbour(storage: &dyn ReadStorage, place: &Path) -> Option<String> {
    let wanted = place.file_name()?.to_str()?;
    let parent = place.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names = storage.list(parent).ok()?;
    let is_folder = |name: &&str| storage.facts(&parent.join(name)).is_ok_and(|facts| facts.kind == Kind::Dir);
    let folders = names.iter().take(MOST_NEIGHBOURS).filter_map(|name| name.to_str()).filter(is_folder);
    did_you_mean(wanted, folders).map(str::to_owned)
}
