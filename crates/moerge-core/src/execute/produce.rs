//! Produces the bytes of an output tensor in order, a few hundred KiB at a time, in each of the encodings that it is
//! written in.

use std::ops::Range;

use moerge_checkpoint::{Encoding, TensorView};

use super::open_shard::TensorWriter;
use crate::{
    error::{ErrorKind, Result},
    numeric::{
        blocks::blocks_not_finite,
        encode::{ColumnImportance, encode},
    },
    ops::{ComputedValues, Evaluator, Preparation},
};

/// Bytes per read and write: enough for a disk's full speed, few enough to stay in a core's cache until they are written.
pub const CHUNK: usize = 256 << 10;

/// Buffers that a worker reuses.
#[derive(Debug, Default)]
pub struct Buffers {
    bytes: Vec<u8>,
    values: Vec<f32>,
    out: Vec<u8>,
}

/// Passes the bytes of a tensor to `writers`, in order. All write the same tensor, each in its own encoding.
pub fn produce(
    writers: &mut [TensorWriter<'_>],
    preparation: &Preparation<'_>,
    computed: &dyn ComputedValues,
    buffers: &mut Buffers,
) -> Result<()> {
    let Some(tensor) = writers.first().map(|writer| writer.tensor) else { return Ok(()) };
    if let Some(view) = tensor.as_copy()
        && writers.iter().all(|writer| writer.tensor.is_copy())
    {
        return copy(view, buffers, writers);
    }
    let evaluator = Evaluator::prepare(&tensor.expr, preparation).map_err(|error| match error.kind() {
        ErrorKind::Input => error.fact("tensor", tensor.name.as_str()),
        ErrorKind::Io | ErrorKind::Interrupted => error,
    })?;
    let ((rows, columns), at_once) = (evaluator.shape(), evaluator.rows_at_once());
    let importance = computed
        .importance(&tensor.name)
        .map(|values| ColumnImportance { values, rows_each: rows / (values.len() / columns.max(1)).max(1) });
    for first in (0..rows).step_by(at_once) {
        let now = first..(first + at_once).min(rows);
        evaluator.fetch(now.clone(), &mut buffers.bytes)?;
        buffers.values.resize(now.len() * columns, 0.0);
        evaluator.compute(now.clone(), &buffers.bytes, computed, &mut buffers.values)?;
        write_rows(writers, now, columns, importance, buffers)?;
    }
    Ok(())
}

/// Encodes the computed rows for every writer.
fn write_rows(
    writers: &mut [TensorWriter<'_>],
    rows: Range<usize>,
    columns: usize,
    importance: Option<ColumnImportance<'_>>,
    buffers: &mut Buffers,
) -> Result<()> {
    let Buffers { bytes, values, out } = buffers;
    let mut encoded = None;
    for writer in writers {
        if let Some(view) = writer.tensor.as_copy() {
            // What was fetched of a tensor that another writer converts are its own bytes.
            writer.non_finite.count(view.dtype, bytes);
            writer.write(bytes)?;
            continue;
        }
        let encoding = writer.tensor.encoding;
        if encoded != Some(encoding) {
            out.clear();
            encode(encoding, values, (rows.start, columns), importance, out)?;
            encoded = Some(encoding);
        }
        count_not_finite(writer, values, out);
        writer.write(out)?;
    }
    Ok(())
}

fn count_not_finite(writer: &mut TensorWriter<'_>, values: &[f32], encoded: &[u8]) {
    match writer.tensor.encoding {
        Encoding::Plain(dtype) => writer.non_finite.count(dtype, encoded),
        Encoding::Blocks(block) => {
            let before = writer.non_finite;
            writer.non_finite.count_values(values);
            if writer.non_finite == before {
                let blocks = blocks_not_finite(block, encoded);
                writer.non_finite.infinite += (blocks * block.elements()) as u64;
            }
        }
    }
}

/// Copies the bytes of a source unchanged.
fn copy(view: &TensorView, buffers: &mut Buffers, writers: &mut [TensorWriter<'_>]) -> Result<()> {
    let mut offset = 0;
    while offset < view.len {
        let length = (view.len - offset).min(CHUNK as u64) as usize;
        buffers.bytes.resize(length, 0);
        view.read_at(offset, &mut buffers.bytes)?;
        for writer in &mut *writers {
            writer.non_finite.count(view.dtype, &buffers.bytes);
            writer.write(&buffers.bytes)?;
        }
        offset += length as u64;
    }
    Ok(())
}
