//! Rows of f32 as the bytes of an output tensor.

use moerge_checkpoint::Encoding;

use super::element;

/// Appends `values`, which are rows of `columns`, as `encoding` to `out`.
pub fn encode(encoding: Encoding, values: &[f32], columns: usize, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Plain(dtype) => element::narrow(dtype, values, out),
        Encoding::Blocks(block) => {
            let _ = (block, columns);
            todo!()
        }
    }
}
