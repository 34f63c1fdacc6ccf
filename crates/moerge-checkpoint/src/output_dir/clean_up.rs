//! Removes the work folder, or its content, in an order in which a crash leaves no misleading state.

use std::io;
use std::path::Path;

use super::{LOCK, MARKER, OutputDir, PLAN_ID};
use crate::error::{Error, Result};

impl OutputDir {
    /// Invalidates the build in one durable step.
    pub(super) fn forget_plan(&self) -> Result<()> {
        self.remove_file_if_any(&self.work.join(PLAN_ID))?;
        self.sync_dir(&self.work)
    }

    /// Invalidates the previous output in one step, once the new one is in place.
    pub(super) fn retire_old(&self) -> Result<()> {
        let (old, trash) = (self.work.join("old"), self.work.join("trash"));
        if self.facts(&old)?.is_some() {
            self.remove_dir_if_any(&trash)?;
            self.rename(&old, &trash)?;
            self.sync_dir(&self.work)?;
        }
        Ok(())
    }

    /// Removes everything except the marker, `plan-id` and `lock` from the work folder.
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

    /// Removes the work folder with its content. An output in `old/` counts as replaced, and `model/` as
    /// abandoned.
    pub(super) fn remove_work(&self) -> Result<()> {
        self.retire_old()?;
        if !self.published {
            self.forget_plan()?;
        }
        // `plan-id` of a published build stays until the end, so that the next run after a crash
        // recognises it.
        self.empty_work()?;
        self.forget_plan()?;
        self.remove_file_if_any(&self.work.join(MARKER))?;
        // The lock is removed last. Then another process may take over; in that case the folder is not
        // empty and no longer ours.
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
