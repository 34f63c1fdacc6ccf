//! The source of a model's weights: rows of f32 by role.
//!
//! Rows are made in two steps. [`Weights::fetch`] is limited by the disk and is called ahead of time by the threads of
//! the weight stream. [`Weights::widen`] is limited by the processor and is called by the threads that multiply, on few
//! enough rows to stay in a core's cache until they are used.

use std::ops::Range;

use moerge_core::{
    error::{Error, ErrorKind, Result},
    model::families::{Description, Role, RoleTensor},
};

/// The weights of a model by role, as f32.
///
/// A vector counts as a matrix with one column: its rows are its elements.
pub trait Weights: Sync {
    /// The description of the model.
    fn description(&self) -> &Description;

    /// Replaces the content of `raw` by the bytes from which `rows` of `role` are made, row by row with the same number
    /// of bytes each. Only reads; computes nothing.
    ///
    /// # Errors
    /// A weight is missing or cannot be read.
    fn fetch(&self, role: Role, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()>;

    /// Converts `raw`, the fetched bytes of exactly `rows`, to f32. `out` has room for these rows.
    ///
    /// # Errors
    /// A weight is missing, or cannot be computed.
    fn widen(&self, role: Role, rows: Range<usize>, raw: &[u8], out: &mut [f32]) -> Result<()>;

    /// Both steps at once, for rows that are not streamed.
    ///
    /// # Errors
    /// A weight is missing or cannot be read.
    fn read_rows(&self, role: Role, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let mut raw = Vec::new();
        self.fetch(role, rows.clone(), &mut raw)?;
        self.widen(role, rows, &raw, out)
    }
}

/// The tensor of `role` in the model's description.
pub(super) fn tensor_of(description: &Description, role: Role) -> Result<&RoleTensor> {
    description.get(role).ok_or_else(|| bug(format!("a model without {role:?} was asked for it")))
}

/// Rows and columns of a tensor; a vector is a column.
pub(super) fn matrix_shape(tensor: &RoleTensor) -> (usize, usize) {
    let (rows, columns) = tensor.shape.split_first().unwrap_or((&1, &[]));
    (*rows, columns.iter().product())
}

/// An error that only a bug in moerge can cause.
pub(super) fn bug(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Input, format!("this is a bug in moerge, not in your files: {what}"))
}
