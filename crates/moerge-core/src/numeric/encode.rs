//! Rows of f32 as the bytes of an output tensor.

use moerge_checkpoint::Encoding;

use super::{
    blocks::{encode_row, row_bytes},
    element,
};
use crate::error::Result;

/// How much the columns of a tensor count.
#[derive(Debug, Clone, Copy)]
pub struct ColumnImportance<'a> {
    /// A number per column, for each matrix of a stack.
    pub values: &'a [f32],
    /// Rows of a matrix.
    pub rows_each: usize,
}

impl<'a> ColumnImportance<'a> {
    /// That of a row.
    fn of_row(self, row: usize, columns: usize) -> Option<&'a [f32]> {
        let matrix = row.checked_div(self.rows_each)?;
        self.values.get(matrix * columns..(matrix + 1) * columns)
    }
}

/// Appends `values`, which are the rows of `columns` from `first` on, as `encoding` to `out`.
///
/// # Errors
/// Rows that are not whole blocks of a block type.
pub fn encode(
    encoding: Encoding,
    values: &[f32],
    (first, columns): (usize, usize),
    importance: Option<ColumnImportance<'_>>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let block = match encoding {
        Encoding::Plain(dtype) => {
            element::narrow(dtype, values, out);
            return Ok(());
        }
        Encoding::Blocks(block) => block,
    };
    for (index, row) in values.chunks(columns.max(1)).enumerate() {
        let importance = importance.and_then(|importance| importance.of_row(first + index, columns));
        let start = out.len();
        out.resize(start + row_bytes(block, row.len()).unwrap_or(0), 0);
        encode_row(block, row, importance, &mut out[start..])?;
    }
    Ok(())
}
