//! The error for a model that is not on this machine: where it was searched, and what to do.

use std::path::{Path, PathBuf};

use moerge_checkpoint::{FileKind, ReadStorage};

use super::HubId;
use crate::{
    error::{Cause, Error},
    suggest::{did_you_mean, printable, shorten},
};

/// A model or an adapter that was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelNotFound {
    /// The part of the reference that was not found, as written.
    pub written: String,
    /// Whether it can be downloaded.
    pub why: Why,
    /// The places that were searched, each with what was found there.
    pub looked: Vec<(PathBuf, String)>,
    /// Advice other than a download.
    pub hints: Vec<String>,
}

/// Why a model was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It may be on the Hub and has not been downloaded.
    NotDownloaded(Box<HubId>),
    /// It is not an id on the Hub, so a folder is missing.
    Missing,
}

impl From<ModelNotFound> for Error {
    /// The error for the user; the caller adds the place in the recipe.
    fn from(not_found: ModelNotFound) -> Self {
        let written = shorten(&not_found.written);
        let mut error = match &not_found.why {
            Why::NotDownloaded(_) => Error::input(format!("{written} is not downloaded yet")),
            Why::Missing => Error::input(format!("there is no model folder {written}")),
        };
        for (place, found) in &not_found.looked {
            error = error.fact("looked at", format!("{}: {found}", printable(&place.display().to_string())));
        }
        for hint in &not_found.hints {
            error = error.hint(hint.clone());
        }
        error.cause(match &not_found.why {
            Why::NotDownloaded(id) => Cause::NotDownloaded { id: id.to_string() },
            Why::Missing => Cause::ModelNotFound,
        })
    }
}

/// Maximum number of names that are compared.
const MAX_NEIGHBOURS: usize = 10_000;

/// The folder in the parent of `place` with the most similar name.
pub(super) fn nearest_folder(storage: &dyn ReadStorage, place: &Path) -> Option<String> {
    let wanted = place.file_name()?.to_str()?;
    let parent = place.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names = storage.list(parent).ok()?;
    let is_folder = |name: &&str| storage.facts(&parent.join(name)).is_ok_and(|facts| facts.kind == FileKind::Dir);
    let folders = names.iter().take(MAX_NEIGHBOURS).filter_map(|name| name.to_str()).filter(is_folder);
    did_you_mean(wanted, folders).map(str::to_owned)
}
