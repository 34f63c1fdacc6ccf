//! One output tensor's bytes, in order, a few MiB at a time.

use moerge_checkpoint::TensorView;

use super::{Computed, average::Averaging, change::Change};
use crate::{
    error::{Error, Result},
    numeric::element,
    plan::{Average, OutputTensor, Step, Transform},
};

/// Bytes read and written at once: large enough for a disk's full speed, small enough for many threads.
pub const CHUNK: usize = 256 << 10;

/// Elements changed at once where a matrix product is part of the change: it is faster on many rows.
const ELEMENTS_WITH_LORA: usize = 1 << 20;

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
    computed: &Computed,
    seed: u64,
    buffers: &mut Buffers,
    emit: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    match &tensor.step {
        Step::Copy(view) => copy(view, buffers, emit),
        Step::Transform(step) => transform(tensor, step, seed, buffers, emit),
        Step::Average(step) => average(tensor, step, seed, buffers, emit),
        Step::Router(_) | Step::SharedExpertGate(_) => emit_values(tensor, values(tensor, computed)?, buffers, emit),
        Step::Fill(value) => fill(tensor, *value, tensor.elements(), buffers, emit),
    }
}

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

fn values<'a>(tensor: &OutputTensor, computed: &'a Computed) -> Result<&'a [f32]> {
    let found = computed.get(&tensor.name);
    found.filter(|v| v.len() as u64 == tensor.elements()).map(Vec::as_slice).ok_or_else(|| {
        let found = found.map_or("nothing".to_owned(), |v| format!("{} numbers", v.len()));
        Error::input(format!("the gates kept for {} do not fit", tensor.name))
            .fact("expected", format!("{:?}", tensor.shape))
            .fact("found", found)
    })
}

fn emit_values(
    tensor: &OutputTensor,
    values: &[f32],
    buffers: &mut Buffers,
    emit: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    buffers.out.clear();
    element::narrow(tensor.dtype, values, &mut buffers.out);
    emit(&buffers.out)
}

fn fill(
    tensor: &OutputTensor,
    value: f32,
    elements: u64,
    buffers: &mut Buffers,
    emit: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let at_once = elements.min(CHUNK as u64 / 4);
    buffers.values.clear();
    buffers.values.resize(at_once as usize, value);
    buffers.out.clear();
    element::narrow(tensor.dtype, &buffers.values, &mut buffers.out);
    let size = buffers.out.len() as u64 / at_once.max(1);
    let mut left = elements;
    while left > 0 {
        let now = left.min(at_once);
        emit(&buffers.out[..(now * size) as usize])?;
        left -= now;
    }
    Ok(())
}

fn average(
    tensor: &OutputTensor,
    step: &Average,
    seed: u64,
    buffers: &mut Buffers,
    emit: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let (rows, width) =
        (tensor.shape.first().copied().unwrap_or(1), tensor.shape.iter().skip(1).product::<usize>().max(1));
    let lora = step.parts.iter().any(|(part, _)| part.lora.is_some());
    let rows_at_once = (if lora { ELEMENTS_WITH_LORA } else { CHUNK / 4 } / width).clamp(1, rows.max(1));
    let averaging = Averaging::new(step)?;
    for first in (0..rows).step_by(rows_at_once) {
        let now = first..(first + rows_at_once).min(rows);
        averaging.fetch(now.clone(), width, &mut buffers.bytes)?;
        buffers.values.resize(now.len() * width, 0.0);
        averaging.mean(seed, now, &buffers.bytes, &mut buffers.values)?;
        buffers.out.clear();
        element::narrow(tensor.dtype, &buffers.values, &mut buffers.out);
        emit(&buffers.out)?;
    }
    Ok(())
}

fn transform(
    tensor: &OutputTensor,
    step: &Transform,
    seed: u64,
    buffers: &mut Buffers,
    emit: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let view = &step.view;
    let columns = |shape: &[usize]| shape.iter().skip(1).product::<usize>();
    let (rows, width, out_width) =
        (view.shape.first().copied().unwrap_or(1), columns(&view.shape), columns(&tensor.shape));
    let at_once = if step.lora.is_some() { ELEMENTS_WITH_LORA } else { CHUNK / 4 };
    let rows_at_once = (at_once / width.max(1)).clamp(1, rows.max(1));
    let row_bytes = width * view.dtype.size_bits() as usize / 8;
    let change = Change::new(step)?;
    for first in (0..rows).step_by(rows_at_once) {
        let count = rows_at_once.min(rows - first);
        buffers.bytes.resize(count * row_bytes, 0);
        view.read_at((first * row_bytes) as u64, &mut buffers.bytes)?;
        buffers.values.resize(count * width, 0.0);
        element::widen(view.dtype, &buffers.bytes, &mut buffers.values);
        change.apply(seed, first..first + count, width, &mut buffers.values)?;
        buffers.out.clear();
        if width == out_width {
            element::narrow(tensor.dtype, &buffers.values, &mut buffers.out);
        } else {
            let zeros = vec![0.0; out_width - width];
            for row in buffers.values.chunks_exact(width) {
                element::narrow(tensor.dtype, row, &mut buffers.out);
                element::narrow(tensor.dtype, &zeros, &mut buffers.out);
            }
        }
        emit(&buffers.out)?;
    }
    let missing_rows = tensor.shape.first().copied().unwrap_or(1) - rows;
    fill(tensor, 0.0, (missing_rows * out_width) as u64, buffers, emit)
}
