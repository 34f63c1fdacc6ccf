//! Produces the bytes of an output tensor in order, a few hundred KiB at a time.

use moerge_checkpoint::{Encoding, TensorView};

use crate::{
    error::{ErrorKind, Result},
    numeric::{
        blocks::blocks_not_finite,
        encode::{ColumnImportance, encode},
        non_finite::NonFinite,
    },
    ops::{ComputedValues, Evaluator, Preparation},
    plan::OutputTensor,
};

/// Bytes per read and write: enough for a disk's full speed, few enough for many threads.
pub const CHUNK: usize = 256 << 10;

/// Buffers that a worker reuses.
#[derive(Debug, Default)]
pub struct Buffers {
    bytes: Vec<u8>,
    values: Vec<f32>,
    out: Vec<u8>,
}

/// Passes the bytes of `tensor` to `emit`, in order. Returns the counts of NaN and infinities.
pub fn produce(
    tensor: &OutputTensor,
    preparation: &Preparation<'_>,
    computed: &dyn ComputedValues,
    buffers: &mut Buffers,
    emit: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<NonFinite> {
    if let Some(view) = tensor.as_copy() {
        return copy(view, buffers, emit);
    }
    let evaluator = Evaluator::prepare(&tensor.expr, preparation).map_err(|error| match error.kind() {
        ErrorKind::Input => error.fact("tensor", tensor.name.as_str()),
        ErrorKind::Io | ErrorKind::Interrupted => error,
    })?;
    let ((rows, columns), at_once) = (evaluator.shape(), evaluator.rows_at_once());
    let importance = computed
        .importance(&tensor.name)
        .map(|values| ColumnImportance { values, rows_each: rows / (values.len() / columns.max(1)).max(1) });
    let mut non_finite = NonFinite::default();
    for first in (0..rows).step_by(at_once) {
        let now = first..(first + at_once).min(rows);
        evaluator.fetch(now.clone(), &mut buffers.bytes)?;
        buffers.values.resize(now.len() * columns, 0.0);
        evaluator.compute(now.clone(), &buffers.bytes, computed, &mut buffers.values)?;
        buffers.out.clear();
        encode(tensor.encoding, &buffers.values, (now.start, columns), importance, &mut buffers.out)?;
        match tensor.encoding {
            Encoding::Plain(dtype) => non_finite.count(dtype, &buffers.out),
            Encoding::Blocks(block) => {
                let before = non_finite;
                non_finite.count_values(&buffers.values);
                if non_finite == before {
                    let blocks = blocks_not_finite(block, &buffers.out);
                    non_finite.infinite += (blocks * block.elements()) as u64;
                }
            }
        }
        emit(&buffers.out)?;
    }
    Ok(non_finite)
}

/// Copies the bytes of a source unchanged.
fn copy(view: &TensorView, buffers: &mut Buffers, emit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<NonFinite> {
    let (mut offset, mut non_finite) = (0, NonFinite::default());
    while offset < view.len {
        let length = (view.len - offset).min(CHUNK as u64) as usize;
        buffers.bytes.resize(length, 0);
        view.read_at(offset, &mut buffers.bytes)?;
        non_finite.count(view.dtype, &buffers.bytes);
        emit(&buffers.bytes)?;
        offset += length as u64;
    }
    Ok(non_finite)
}
