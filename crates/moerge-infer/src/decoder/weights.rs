//! Where the forward pass gets its weights from: role by role, as rows of f32.
//!
//! Getting rows is two steps, because two different things limit them. [`Weights::fetch`] waits for the disk and is
//! called ahead of time by the threads of the weight stream; [`Weights::widen`] computes, and is called by the
//! threads that multiply, on rows few enough to stay in a core's cache until they are used.

use std::ops::Range;

use moerge_core::{
    error::{Error, ErrorKind, Result},
    model::families::{Description, Role, RoleTensor},
};

/// Gives the weights of a model, role by role, as f32.
///
/// A vector counts as a matrix of one column: its rows are its elements.
pub trait Weights: Sync {
    /// The model.
    fn description(&self) -> &Description;

    /// Puts what `rows` of `role` are made from into `raw`, replacing what was there: the same number of bytes for
    /// every row, row after row. Reads, and computes nothing.
    fn fetch(&self, role: Role, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()>;

    /// Makes f32 of `raw`, the fetched bytes of exactly `rows`. `out` has room for these rows.
    fn widen(&self, role: Role, rows: Range<usize>, raw: &[u8], out: &mut [f32]) -> Result<()>;

    /// Both steps at once, for the few rows that are not streamed.
    fn read_rows(&self, role: Role, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let mut raw = Vec::new();
        self.fetch(role, rows.clone(), &mut raw)?;
        self.widen(role, rows, &raw, out)
    }
}

/// The tensor of `role`, as the model's description has it.
pub(super) fn tensor_of(description: &Description, role: Role) -> Result<&RoleTensor> {
    description.get(role).ok_or_else(|| bug(format!("a model without {role:?} was asked for it")))
}

/// Rows and columns of a role; a vector is a column.
pub(super) fn matrix_shape(tensor: &RoleTensor) -> (usize, usize) {
    let (rows, columns) = tensor.shape.split_first().unwrap_or((&1, &[]));
    (*rows, columns.iter().product())
}

/// An error that no input can cause.
pub(super) fn bug(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Input, format!("this is a mistake in moerge, not in your files: {what}"))
}
