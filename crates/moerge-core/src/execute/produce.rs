//! One output tensor's bytes, in order, some hundred KiB at a time.

use moerge_checkpoint::TensorView;

use crate::{
    error::{ErrorKind, Result},
    numeric::element,
    ops::{ComputedValues, Evaluator, Preparation},
    plan::OutputTensor,
};

/// Bytes read and written at once: large enough for a disk's full speed, small enough for many threads.
pub const CHUNK: usize = 256 << 10;

/// What a worker reuses from tensor to tensor.
#[derive(Debug, Default)]
pub struct Buffers {
    bytes: Vec<u8>,
    values: Vec<f32>,
    out: Vec<u8>,
}

/// Gives the bytes of `tensor` to `emit`, in order.
pub fn produce(
    tensor: &OutputTensor,
    preparation: &Preparation<'_>,
    computed: &dyn ComputedValues,
    buffers: &mut Buffers,
    emit: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    if let Some(view) = tensor.expr.as_copy(tensor.dtype) {
        return copy(view, buffers, emit);
    }
    let evaluator = Evaluator::prepare(&tensor.expr, preparation).map_err(|error| match error.kind() {
        ErrorKind::Input => error.fact("tensor", tensor.name.as_str()),
        ErrorKind::Io | ErrorKind::Interrupted => error,
    })?;
    let ((rows, columns), at_once) = (evaluator.shape(), evaluator.rows_at_once());
    for first in (0..rows).step_by(at_once) {
        let now = first..(first + at_once).min(rows);
        evaluator.fetch(now.clone(), &mut buffers.bytes)?;
        buffers.values.resize(now.len() * columns, 0.0);
        evaluator.compute(now, &buffers.bytes, computed, &mut buffers.values)?;
        buffers.out.clear();
        element::narrow(tensor.dtype, &buffers.values, &mut buffers.out);
        emit(&buffers.out)?;
    }
    Ok(())
}

/// Whatever it is, a source's bytes go through unchanged.
fn copy(view: &TensorView, buffers: &mut Buffers, emit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut offset = 0;
    while offset < view.len {
        let length = (view.len - offset).min(CHUNK as u64) as usize;
        buffers.bytes.resize(length, 0);
        view.read_at(offset, &mut buffers.bytes)?;
        emit(&buffers.bytes)?;
        offset += length as u64;
    }
    Ok(())
}
