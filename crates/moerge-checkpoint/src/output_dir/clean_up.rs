//! Removing the work folder, or what is in it, such that a cut on the way leaves nothing that could
//! be taken for something else.

use std::io;
use std::path::Path;

use super::{LOCK, MARKER, OutputDir, PLAN_ID};
use crate::error::{Error, Result};

impl OutputDir {
    /// Makes the work folder worthless in one step that a cut cannot undo.
    pub(super) fn forget_plan(&self) -> Result<()> {
        self.remove_file_if_any(&self.work.join(PLAN_ID))?;
        self.sync_dir(&self.work)
    }

    /// Makes the previous output worthless, in one step; for when the new one is in place.
    pub(super) fn retire_old(&self) -> Result<()> {
        let (old, trash) = (self.work.join("old"), self.work.join("trash"));
        if self.facts(&old)?.is_some() {
            self.remove_dir_if_any(&trash)?;
            self.rename(&old, &trash)?;
            self.sync_dir(&self.work)?;
        }
        Ok(())
    }

    /// Removes all but the marker, `plan-id` and `lock` from the work folder.
    pub(super) fn empty_work(&self) -> Result<()> {
        for name in self.list(&self.work)? {
            let path = self.work.join(&name);
            if name == LOCK || name == PLAN_ID || name == MARKER {
                continue;
            }
            if self.is_dir(&path)? {
                self.remove_dir_if_any(&path)?;
            } else {
                self.remove_file_if_any(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the work folder with all that is in it. An output in `old/` counts as replaced, and
    /// `model/`, if it is there, as given up.
    pub(super) fn remove_work(&self) -> Result<()> {
        self.retire_old()?;
        if !self.published {
            self.forget_plan()?;
        }
        // Of a published build `plan-id` stays until the end, so that the next run after a cut
        // recognises it.
        self.empty_work()?;
        self.forget_plan()?;
        self.remove_file_if_any(&self.work.join(MARKER))?;
        // The lock goes last. From that moment on another process may have moved in; then the
        // folder is not empty, and not ours.
        self.remove_file_if_any(&self.work.join(LOCK))?;
        match self.storage.remove_dir(&self.work) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                return Err(Error::io("remove", &self.work, error));
            }
            _ => {}
        }
        self.sync_dir(&self.parent)
    }

    pub(super) fn remove_dir_if_any(&self, dir: &Path) -> Result<()> {
        if_any("remove", dir, self.storage.remove_dir_all(dir))
    }

    pub(super) fn remove_file_if_any(&self, path: &Path) -> Result<()> {
        if_any("remove", path, self.storage.remove_file(path))
    }
}

fn if_any(operation: &'static str, path: &Path, outcome: io::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(operation, path, error)),
        _ => Ok(()),
    }
}
