//! Publication, step by step; the parent module lists the states in between.

use std::path::Path;

use super::{ANNOUNCED, OutputDir, PART, PlacedFile};
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
    if let Some(files) = &output.files {
        return move_files(output, files);
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

/// Moves files to their places, the first one last: readers start from it.
fn move_files(output: &OutputDir, files: &[PlacedFile]) -> Result<()> {
    output.check_out()?;
    let model = output.model_dir();
    let lines = files.iter().map(|file| output.likeness(&model.join(&file.name), &file.name));
    output.keep(ANNOUNCED, lines.collect::<Result<Vec<_>>>()?.join("\n").as_bytes())?;
    let Some((first, others)) = files.split_first() else { return Ok(()) };
    if !others.is_empty() {
        // Neither an earlier first file nor the new one may be found beside a mixture of others.
        output.remove_file_if_any(&first.place)?;
        output.sync_dir(&output.parent)?;
        others.iter().try_for_each(|file| output.rename(&model.join(&file.name), &file.place))?;
        sync_both(output, &output.parent, &model)?;
    }
    output.rename(&model.join(&first.name), &first.place)?;
    sync_both(output, &output.parent, &model)?;
    // From here on the state is that of a published folder, whatever is removed first.
    output.rename(&model, &output.work.join("trash"))?;
    output.sync_dir(&output.work)
}

/// Syncs both folders after a rename between them.
fn sync_both(output: &OutputDir, first: &Path, second: &Path) -> Result<()> {
    output.sync_dir(first)?;
    output.sync_dir(second)
}
