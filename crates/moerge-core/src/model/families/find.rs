//! Finds the bytes of a role in a checkpoint.

use moerge_checkpoint::{Checkpoint, TensorView};

use super::RoleTensor;
use crate::{
    error::{Error, Result},
    model::foreign_weights::{self, UNQUANTISED},
};

fn quantised(checkpoint: &Checkpoint, why: &str) -> Error {
    Error::input(format!("{}: {why}", checkpoint.dir().display())).hint(UNQUANTISED)
}

impl RoleTensor {
    /// The shape of the stored tensor: the role's shape, unless it is part of a fused tensor.
    pub fn stored_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if let (Some(part), Some(rows)) = (self.part_of, shape.first_mut()) {
            *rows = part.of_rows;
            if let Some(stack) = part.stack.filter(|n| *n > 0) {
                *rows /= stack;
                shape.insert(0, stack);
            }
        }
        shape
    }

    /// The rows of the stored tensor that belong to this role.
    pub fn rows(&self) -> std::ops::Range<usize> {
        let first = self.part_of.map_or(0, |part| part.first_row);
        first..first + self.shape.first().copied().unwrap_or(0)
    }

    /// The role's bytes in `checkpoint`; their shape is checked against the description.
    ///
    /// # Errors
    /// It is missing, quantised, under another program's name, or of another shape.
    pub fn find(&self, checkpoint: &Checkpoint) -> Result<TensorView> {
        let name = &self.name;
        let Some(view) = checkpoint.get(name) else {
            if let Some(why) = foreign_weights::quantised(checkpoint) {
                return Err(quantised(checkpoint, &why));
            }
            if let Some(error) = foreign_weights::renamed(checkpoint, name) {
                return Err(error);
            }
            return Err(Error::input(format!(
                "{} has no tensor {name}, which its config.json requires",
                checkpoint.dir().display()
            ))
            .fact("expected", format!("{:?}", self.stored_shape()))
            .hint("the download may be incomplete, or config.json belongs to another model"));
        };
        let file = view.file.path.display();
        if !foreign_weights::is_plain(view.dtype) {
            return Err(match foreign_weights::quantised(checkpoint) {
                Some(why) => quantised(checkpoint, &why),
                None => Error::input(format!("{file}: tensor {name} is {}", view.dtype)).hint(UNQUANTISED),
            });
        }
        if view.shape != self.stored_shape() {
            return Err(Error::input(format!("{file}: tensor {name} has the wrong shape"))
                .fact("expected", format!("{:?}, from config.json", self.stored_shape()))
                .fact("found", format!("{:?}", view.shape)));
        }
        let Some(part) = self.part_of else { return Ok(view.clone()) };
        let mut whole = view.clone();
        if part.stack.is_some() {
            // The matrices are contiguous, so the stack is one matrix with many rows.
            whole.shape.splice(..2, [part.of_rows]);
        }
        Ok(whole.rows(self.rows())?)
    }
}
