//! Publication, step by step; the parent module lists the states in between.

use std::path::Path;

use super::{ANNOUNCED, OutputDir, PART};
use crate::error::{Error, Result};

pub(super) fn publish(mut output: OutputDir) -> Result<()> {
    if !output.published {
        refuse_unfinished(&output)?;
        // The files are already synced; this makes their names durable.
        output.sync_dir(&output.model_dir())?;
        swap(&output)?;
        output.published = true;
    } else {
        // An earlier run made the rename, but perhaps not the sync.
        sync_both(&output, &output.parent, &output.work)?;
    }
    output.remove_work().map_err(|problem| Error::Cleanup {
        out: output.out.clone(),
        work: output.work.clone(),
        problem: Box::new(problem),
    })
}

fn refuse_unfinished(output: &OutputDir) -> Result<()> {
    let dir = output.model_dir();
    for name in output.list(&dir)? {
        if name.as_encoded_bytes().ends_with(PART.as_bytes()) {
            return Err(Error::Unfinished { file: dir.join(name) });
        }
    }
    Ok(())
}

/// Moves the previous output aside, if there is one, and the new one to its final place.
fn swap(output: &OutputDir) -> Result<()> {
    if let Some(name) = &output.file {
        output.check_out()?;
        let built = output.model_dir().join(name);
        let len = output.facts(&built)?.map_or(0, |facts| facts.len);
        output.keep(ANNOUNCED, &output.likeness(&built, len)?)?;
        output.rename(&built, &output.out)?;
        sync_both(output, &output.parent, &output.model_dir())?;
        // From here on the state is that of a published folder, whatever is removed first.
        output.rename(&output.model_dir(), &output.work.join("trash"))?;
        return output.sync_dir(&output.work);
    }
    let (model, old) = (output.model_dir(), output.work.join("old"));
    // Check again: hours may have passed.
    if output.check_out()? {
        output.rename(&output.out, &old)?;
        // No sync in between: it would only prolong the time without an OUT. If only the second rename
        // survives a crash, the new output is in place and complete.
        let published = output.rename(&model, &output.out);
        if published.is_err() {
            // Restore the old output. If this fails too, the next run does it.
            let _ = output.rename(&old, &output.out);
        }
        published?;
    } else {
        output.rename(&model, &output.out)?;
    }
    sync_both(output, &output.parent, &output.work)
}

/// Syncs both folders after a rename between them.
fn sync_both(output: &OutputDir, first: &Path, second: &Path) -> Result<()> {
    output.sync_dir(first)?;
    output.sync_dir(second)
}
