//! Reading two models side by side, a piece at a time, by several threads. The pieces do not depend on the number of
//! threads and their sums are added up in order, so the results do not depend on it either.

use std::{collections::HashMap, ops::Range};

use moerge_checkpoint::{Dtype, TensorView, workers};
use moerge_core::{
    error::Result,
    model::named_tensor::NamedTensor,
    ops::{Evaluator, Expr, rows_and_columns},
    progress::{Progress, Stage},
};

use super::distance::Sums;

/// Elements that are compared as one unit of work.
const PIECE: usize = 4 << 20;
/// Elements of each model that are in memory at once.
const AT_ONCE: usize = 256 << 10;
/// Bytes that are compared at once.
const BYTES_AT_ONCE: usize = 1 << 20;

/// Two tensors of one shape.
pub(crate) struct Pair {
    /// Bytes that the two store.
    bytes: u64,
    how: How,
}

enum How {
    /// As rows of numbers. `widths` are the bytes of an element of each.
    Values { a: Box<Expr>, b: Box<Expr>, rows: usize, columns: usize, widths: u64 },
    /// Byte by byte: whole numbers, and types that only their own programs widen. Their norms would mean nothing.
    Bytes { a: Box<TensorView>, b: Box<TensorView>, width: usize },
}

impl Pair {
    /// `None` where the two cannot be compared: other shapes, or types of another kind.
    pub fn new(a: &NamedTensor, b: &NamedTensor) -> Option<Self> {
        if a.expr.shape() != b.expr.shape() {
            return None;
        }
        let bytes = a.expr.reads().into_iter().chain(b.expr.reads()).map(|view| view.len).sum();
        let (mut left, mut right) = (a.expr.clone(), b.expr.clone());
        if is_widened(a.dtype) && is_widened(b.dtype) {
            if let (Expr::View(a), Expr::View(b)) = (&mut left, &mut right) {
                // Rows would only matter to an adapter, and one of them may be longer than what fits into memory.
                let all = a.elements() as usize;
                a.shape = vec![all];
                b.shape = vec![all];
            }
            let (rows, columns) = rows_and_columns(left.shape());
            let widths = u64::from(a.dtype.size_bits() + b.dtype.size_bits()) / 8;
            return Some(Self {
                bytes,
                how: How::Values { a: Box::new(left), b: Box::new(right), rows, columns, widths },
            });
        }
        match (left, right) {
            (Expr::View(a), Expr::View(b)) if a.dtype == b.dtype => {
                let width = (a.dtype.size_bits() as usize / 8).max(1);
                Some(Self { bytes, how: How::Bytes { a: Box::new(a), b: Box::new(b), width } })
            }
            _ => None,
        }
    }

    /// Whether norms are known of it.
    pub fn has_values(&self) -> bool {
        matches!(self.how, How::Values { .. })
    }

    /// The units of work, in rows or in bytes.
    fn pieces(&self) -> Vec<Range<usize>> {
        let (all, each) = match &self.how {
            How::Values { rows, columns, .. } => (*rows, (PIECE / (*columns).max(1)).max(1)),
            How::Bytes { a, width, .. } => (a.len as usize, PIECE * width),
        };
        (0..all).step_by(each).map(|start| start..(start + each).min(all)).collect()
    }

    fn measure(&self, piece: Range<usize>, buffers: &mut Buffers, progress: &dyn Progress) -> Result<Sums> {
        let mut sums = Sums::default();
        match &self.how {
            How::Values { a, b, columns, widths, .. } => {
                let (a, b) = (Evaluator::new(a, 0)?, Evaluator::new(b, 0)?);
                let at_once = (AT_ONCE / (*columns).max(1)).max(1);
                for start in piece.clone().step_by(at_once) {
                    progress.check()?;
                    let rows = start..(start + at_once).min(piece.end);
                    read_rows(&a, rows.clone(), &mut buffers.raw, &mut buffers.a)?;
                    read_rows(&b, rows, &mut buffers.raw, &mut buffers.b)?;
                    sums.add_elements(&buffers.a, &buffers.b);
                    progress.advance(Stage::Read, buffers.a.len() as u64 * widths);
                }
            }
            How::Bytes { a, b, width } => {
                for start in piece.clone().step_by(BYTES_AT_ONCE) {
                    progress.check()?;
                    let bytes = start..(start + BYTES_AT_ONCE).min(piece.end);
                    buffers.raw.resize(bytes.len(), 0);
                    buffers.other.resize(bytes.len(), 0);
                    a.read_at(bytes.start as u64, &mut buffers.raw)?;
                    b.read_at(bytes.start as u64, &mut buffers.other)?;
                    let (a, b) = (buffers.raw.chunks(*width), buffers.other.chunks(*width));
                    sums.add_compared(a.len() as u64, a.zip(b).filter(|(a, b)| a == b).count() as u64);
                    progress.advance(Stage::Read, 2 * bytes.len() as u64);
                }
            }
        }
        Ok(sums)
    }
}

#[derive(Default)]
struct Buffers {
    raw: Vec<u8>,
    other: Vec<u8>,
    a: Vec<f32>,
    b: Vec<f32>,
}

/// Reads every pair and sums it up, in their order.
///
/// # Errors
/// A source cannot be read, or the user stops the run.
pub(crate) fn measure(pairs: &[Pair], threads: usize, progress: &dyn Progress) -> Result<Vec<Sums>> {
    progress.start(Stage::Read, pairs.iter().map(|pair| pair.bytes).sum(), 0);
    let work: Vec<(usize, Range<usize>)> = pairs
        .iter()
        .enumerate()
        .flat_map(|(index, pair)| pair.pieces().into_iter().map(move |piece| (index, piece)))
        .collect();
    let one = |buffers: &mut Buffers, (index, piece): &(usize, Range<usize>)| {
        pairs[*index].measure(piece.clone(), buffers, progress)
    };
    let pieces = workers::try_map_with(&work, threads, Buffers::default, one).map_err(|(_, error)| error)?;
    let mut sums = vec![Sums::default(); pairs.len()];
    for ((index, _), piece) in work.iter().zip(&pieces) {
        sums[*index].add(piece);
    }
    progress.finish(Stage::Read, "");
    Ok(sums)
}

/// Puts rows of `evaluator` into `out`.
pub(crate) fn read_rows(
    evaluator: &Evaluator,
    rows: Range<usize>,
    raw: &mut Vec<u8>,
    out: &mut Vec<f32>,
) -> Result<()> {
    out.resize(rows.len() * evaluator.shape().1, 0.0);
    evaluator.fetch(rows.clone(), raw)?;
    evaluator.compute(rows, raw, &HashMap::new(), out)
}

/// Whether elements of this type are read as numbers.
fn is_widened(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}
