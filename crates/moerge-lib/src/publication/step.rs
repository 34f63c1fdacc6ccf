//! The steps of a merge that several machines make, and the work folder that they share.
//!
//! A part writes its shards beside those of others; the last step publishes them all. Only the plan's id
//! identifies this work folder: it is the same on every machine, unlike paths and times of files.

use moerge_checkpoint::{Found, OutputDir};
use moerge_core::{
    error::{Error, Result},
    plan::Part,
};

use super::Publication;

/// What of a merge a run does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Step {
    /// All of it.
    #[default]
    Whole,
    /// Makes the routers, which all parts use.
    Routers,
    /// Writes the shards of a part.
    Part(Part),
    /// Checks that all shards are there, and publishes the output.
    Finish,
}

/// What a step did after which the output is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The part; `None` after making the routers.
    pub part: Option<Part>,
    /// The number of its shards.
    pub shards: usize,
    /// The bytes of its shards.
    pub bytes: u64,
    /// The number of shards, of all parts, that are still to be written.
    pub missing: usize,
}

impl Step {
    /// The part whose shards are written.
    pub fn part(self) -> Option<Part> {
        match self {
            Self::Part(part) => Some(part),
            _ => None,
        }
    }
}

/// The key by which the work folder of several machines is recognised.
pub(super) fn shared_key(id: &str) -> String {
    format!("{id} in parts")
}

impl Publication<'_> {
    /// Opens the work folder for a step.
    pub(super) fn open_for(&self, step: Step, id: &str, force: bool) -> Result<(OutputDir, Found)> {
        let shared = shared_key(id);
        Ok(match step {
            Step::Part(_) => OutputDir::open_part(self.storage, self.out, &shared, force)?,
            Step::Routers => OutputDir::open(self.storage, self.out, &shared, force)?,
            Step::Whole => {
                // A whole merge writes what the parts have not.
                let key = if self.is_begun(id)? { shared } else { self.resume_key(id) };
                OutputDir::open(self.storage, self.out, &key, force)?
            }
            Step::Finish => {
                // Looked at first: opening for another plan would discard the parts.
                if !self.is_begun(id)? {
                    return Err(Error::input(format!("no parts of this merge are at {}", self.out.display())));
                }
                let (output, found) = OutputDir::open(self.storage, self.out, &shared, force)?;
                if found != Found::AlreadyPublished {
                    self.refuse_missing(&output)?;
                }
                (output, found)
            }
        })
    }

    /// Whether a step of several machines has begun the output.
    pub fn is_begun(&self, id: &str) -> Result<bool> {
        Ok(OutputDir::unfinished(self.storage.as_ref(), self.out)?.is_some_and(|begun| begun == shared_key(id)))
    }

    /// What there is after a step that does not finish the output.
    pub fn unfinished(&self, part: Option<Part>, output: &OutputDir) -> Result<Unfinished> {
        let layout = &self.plan.layout;
        let own = part.map(|part| part.shards(layout)).unwrap_or_default();
        let own: Vec<u64> = layout.shards.iter().zip(own).filter(|(_, own)| *own).map(|(s, _)| s.file_len).collect();
        let missing = output.finished_shards(layout)?.iter().filter(|shard| shard.is_none()).count();
        Ok(Unfinished { part, shards: own.len(), bytes: own.iter().sum(), missing })
    }

    fn refuse_missing(&self, output: &OutputDir) -> Result<()> {
        let shards = &self.plan.layout.shards;
        let finished = output.finished_shards(&self.plan.layout)?;
        let missing: Vec<&str> =
            shards.iter().zip(&finished).filter(|(_, f)| f.is_none()).map(|(s, _)| s.file_name.as_str()).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let message = format!("{} of {} shards are not written yet", missing.len(), shards.len());
        Err(Error::input(message)
            .fact("the first", (*first).to_owned())
            .hint("run the missing parts; finished ones exit at once"))
    }
}
