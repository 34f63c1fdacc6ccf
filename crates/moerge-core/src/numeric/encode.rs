//! Rows of f32 as the bytes of an output tensor.

use moerge_checkpoint::Encoding;

use super::{
    blocks::{encode_row, row_bytes},
    element,
};
use crate::error::Result;

/// Appends `values`, which are rows of `columns`, as `encoding` to `out`.
///
/// # Errors
/// Rows that are not whole blocks of a block type.
pub fn encode(encoding: Encoding, values: &[f32], columns: usize, out: &mut Vec<u8>) -> Result<()> {
    let block = match encoding {
        Encoding::Plain(dtype) => {
            element::narrow(dtype, values, out);
            return Ok(());
        }
        Encoding::Blocks(block) => block,
    };
    for row in values.chunks(columns.max(1)) {
        let start = out.len();
        out.resize(start + row_bytes(block, row.len()).unwrap_or(0), 0);
        encode_row(block, row, None, &mut out[start..])?;
    }
    Ok(())
}
