//! The file that the importance matrix of a run is written to.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::{
    OutputStorage, ReadStorage,
    gguf::{GgufFile, Value},
    write_durably,
};
use moerge_core::{
    error::{Cause, Error, Result},
    ops::Identity,
    plan::gguf::{ImportanceMatrix, PLAN_ID_KEY},
};

use super::{
    Imatrix,
    files::{PlannedFile, PlannedFiles},
};
use crate::publication::real;

/// Where an importance matrix is written.
pub(super) struct ImatrixFile<'a> {
    storage: &'a Arc<dyn OutputStorage>,
    path: &'a Path,
    /// Tells the matrix of this model on this text from others.
    id: String,
}

impl<'a> ImatrixFile<'a> {
    /// The file at `path` for the `imatrix` of the `planned` files.
    ///
    /// # Errors
    /// Another file is there and may not be replaced, or it is one of those that are planned.
    pub fn new(
        storage: &'a Arc<dyn OutputStorage>,
        path: &'a Path,
        planned: &PlannedFiles,
        imatrix: &Imatrix,
        force: bool,
    ) -> Result<Self> {
        let mut id = Identity::default();
        id.text("imatrix").text(&imatrix.facts.identity);
        if let Some(file) = planned.files.first() {
            file.plan.model.identify(&mut id)?;
        }
        let file = Self { storage, path, id: id.finish() };
        if planned.files.iter().flat_map(PlannedFile::paths).any(|out| real(&out) == real(path)) {
            let message = format!("{} would be both the model and its importance matrix", path.display());
            return Err(Error::input(message).hint("choose another name for the importance matrix"));
        }
        file.check_replaced(force)?;
        Ok(file)
    }

    /// Whether the matrix was written by an earlier run.
    pub fn is_there(&self) -> bool {
        self.written_id().is_some_and(|id| id == self.id)
    }

    /// Writes the matrix.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, matrix: &ImportanceMatrix) -> Result<()> {
        let bytes = matrix.to_bytes(&self.id)?;
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let dir = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        self.storage.create_dir_all(dir).map_err(|error| Error::io("create", dir, &error))?;
        Ok(write_durably(self.storage.as_ref(), dir, &name, &bytes)?)
    }

    /// Why the matrix is not written where the outputs are there.
    pub fn not_written(&self, planned: &PlannedFiles) -> String {
        let out = planned.files.first().map(|file| file.out.display().to_string()).unwrap_or_default();
        format!(
            "{} is not written: {out} is there already, so no importance matrix was measured; another name for the \
             output measures it again",
            self.path.display()
        )
    }

    /// What may be replaced: a matrix that moerge wrote, with `force`; the same one is simply written again.
    fn check_replaced(&self, force: bool) -> Result<()> {
        if self.storage.facts(self.path).is_err() || self.is_there() {
            return Ok(());
        }
        if self.written_id().is_none() {
            let message = format!("{} is not replaced: moerge did not write it", self.path.display());
            return Err(Error::input(message).hint("choose another name, or remove the file yourself"));
        }
        if !force {
            let out = self.path.to_owned();
            let message = format!("{} exists, and is another importance matrix", self.path.display());
            return Err(Error::input(message).hint("choose another name").cause(Cause::OutputExists { out }));
        }
        Ok(())
    }

    /// The identity of the matrix that is there, if moerge wrote it.
    fn written_id(&self) -> Option<String> {
        let storage: Arc<dyn ReadStorage> = self.storage.clone();
        let file = GgufFile::open(storage.as_ref(), self.path).ok()?;
        let text = |key: &str| file.get(key).and_then(Value::as_str);
        text(PLAN_ID_KEY).filter(|_| text("general.type") == Some("imatrix")).map(str::to_owned)
    }
}
