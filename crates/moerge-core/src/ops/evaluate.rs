//! Rows of an expression, in f32.
//!
//! Getting rows is two steps, because two different things limit them: [`Evaluator::fetch`] waits for the disk and can
//! run ahead, [`Evaluator::compute`] computes. What is fetched for a row is what its sources store for it, one source
//! after the other, the same number of bytes for every row; so fetched rows can be computed in smaller parts.
//!
//! Results do not depend on how a tensor is cut into rows, nor on threads.

mod inputs;

use std::{collections::HashMap, ops::Range, sync::Arc};

use moerge_checkpoint::{Dtype, TensorView};

pub(super) use inputs::{Inputs, Place};

use super::{Expr, Noise, expr::rows_and_columns, lora::LoadedDelta, methods::Kernel};
use crate::{
    error::{Error, Result},
    numeric::{element, noise::add_noise},
};

/// Values of tensors that the job computes, row after row.
pub trait ComputedValues: Sync {
    /// The values of the tensor `name`; `None` while they are not known.
    fn values(&self, name: &str) -> Option<&[f32]>;
}

impl ComputedValues for HashMap<String, Vec<f32>> {
    fn values(&self, name: &str) -> Option<&[f32]> {
        self.get(name).map(Vec::as_slice)
    }
}

/// Elements computed at once where an adapter is merged: its product is faster on many rows.
const ELEMENTS_WITH_LORA: usize = 1 << 20;
/// Elements computed at once elsewhere: few enough to stay in a core's cache.
const ELEMENTS: usize = 64 << 10;

/// An expression that is ready to give its rows: adapters' A matrices are in memory, and methods that need statistics of
/// whole tensors have them.
pub struct Evaluator {
    node: Node,
    seed: u64,
    lora: bool,
}

/// A node of the tree, with its size.
struct Node {
    op: Op,
    rows: usize,
    columns: usize,
    /// Bytes fetched for a row.
    row_bytes: usize,
}

enum Op {
    View(TensorView),
    Lora { input: Box<Node>, delta: LoadedDelta, round: Option<Dtype> },
    Noise { input: Box<Node>, noise: Noise },
    Scale { input: Box<Node>, factor: f64 },
    Pad(Box<Node>),
    RowMap { input: Box<Node>, map: Arc<[Option<usize>]>, rows_each: usize },
    Combine { inputs: Vec<Node>, kernel: Box<dyn Kernel> },
    Fill(f32),
    Computed(String),
}

/// How an expression is prepared.
pub struct Preparation<'a> {
    /// Seed of noise and of random masks.
    pub seed: u64,
    /// Threads for passes over whole tensors; results do not depend on it.
    pub threads: usize,
    /// Called often during such passes: an error ends them.
    pub check: &'a (dyn Fn() -> Result<()> + Sync),
}

/// Where the bytes of a node's rows lie among those fetched for whole rows.
#[derive(Clone, Copy)]
struct Slot {
    /// Bytes of a whole row.
    stride: usize,
    /// Where the node's own begin.
    offset: usize,
}

/// What computing needs besides the fetched bytes.
#[derive(Clone, Copy)]
struct Context<'a> {
    seed: u64,
    computed: &'a dyn ComputedValues,
}

impl Evaluator {
    /// Prepares `expr` on this thread; `seed` is that of its noise and its random masks.
    ///
    /// # Errors
    /// An adapter or a source cannot be read, or a method does not merge its inputs.
    pub fn new(expr: &Expr, seed: u64) -> Result<Self> {
        Self::prepare(expr, &Preparation { seed, threads: 1, check: &|| Ok(()) })
    }

    /// Prepares `expr`. A method that needs statistics of whole tensors reads its inputs, some more than once.
    ///
    /// # Errors
    /// As [`Evaluator::new`], and those of [`Preparation::check`].
    pub fn prepare(expr: &Expr, preparation: &Preparation<'_>) -> Result<Self> {
        Ok(Self { node: Node::new(expr, preparation)?, seed: preparation.seed, lora: expr.merges_adapter() })
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.node.rows, self.node.columns)
    }

    /// How many rows are best computed at once.
    pub fn rows_at_once(&self) -> usize {
        let elements = if self.lora { ELEMENTS_WITH_LORA } else { ELEMENTS };
        (elements / self.node.columns.max(1)).clamp(1, self.node.rows.max(1))
    }

    /// Puts what `rows` are made from into `raw`, replacing what was there. Reads, and computes nothing.
    ///
    /// # Errors
    /// A source cannot be read.
    pub fn fetch(&self, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()> {
        let stride = self.node.row_bytes;
        let length = rows.len() * stride;
        // Exactly what is needed: a buffer that doubles would break the promise about memory.
        raw.truncate(length);
        raw.reserve_exact(length - raw.len());
        raw.resize(length, 0);
        self.node.fetch(rows, raw, Slot { stride, offset: 0 })
    }

    /// Makes `rows` of what [`Evaluator::fetch`] put into `raw` for exactly these rows.
    ///
    /// # Errors
    /// An adapter cannot be read, or a computed tensor is not known yet.
    pub fn compute(
        &self,
        rows: Range<usize>,
        raw: &[u8],
        computed: &dyn ComputedValues,
        out: &mut [f32],
    ) -> Result<()> {
        let slot = Slot { stride: self.node.row_bytes, offset: 0 };
        self.node.compute(rows, raw, slot, Context { seed: self.seed, computed }, out)
    }
}

impl Node {
    fn new(expr: &Expr, preparation: &Preparation<'_>) -> Result<Self> {
        let (rows, columns) = rows_and_columns(expr.shape());
        let mut inputs = expr.inputs().iter().map(|input| Node::new(input, preparation)).collect::<Result<Vec<_>>>()?;
        let mut row_bytes = inputs.iter().map(|input| input.row_bytes).sum();
        let mut input = || inputs.pop().map(Box::new).ok_or_else(|| Error::input("an expression has no input"));
        let op = match expr {
            Expr::View(view) => {
                row_bytes = columns * view.dtype.size_bits() as usize / 8;
                Op::View(view.clone())
            }
            Expr::Lora { delta, round, .. } => {
                Op::Lora { input: input()?, delta: LoadedDelta::new(delta.clone())?, round: *round }
            }
            Expr::Noise { noise, .. } => Op::Noise { input: input()?, noise: noise.clone() },
            Expr::Scale { factor, .. } => Op::Scale { input: input()?, factor: *factor },
            Expr::Pad { .. } => Op::Pad(input()?),
            Expr::RowMap { map, .. } => {
                let input = input()?;
                let rows_each = rows.checked_div(map.len()).unwrap_or(0);
                let there = |from: &usize| from.checked_mul(rows_each).is_some_and(|first| first < input.rows);
                if rows_each * map.len() != rows || input.columns != columns || !map.iter().flatten().all(there) {
                    return Err(Error::input("a map of rows does not fit its tensor")
                        .fact("tensor", format!("[{}, {}]", input.rows, input.columns))
                        .fact("mapped", format!("{} entries for [{rows}, {columns}]", map.len())));
                }
                Op::RowMap { input, map: map.clone(), rows_each }
            }
            Expr::Combine { method, inputs: exprs } => {
                same_shapes(method.name(), exprs)?;
                let kernel = method.kernel(&Inputs { nodes: &inputs, preparation, shape: expr.shape() })?;
                Op::Combine { inputs, kernel }
            }
            Expr::Fill { value, .. } => Op::Fill(*value),
            Expr::Computed { name, .. } => Op::Computed(name.clone()),
        };
        Ok(Self { op, rows, columns, row_bytes })
    }

    fn fetch(&self, rows: Range<usize>, raw: &mut [u8], slot: Slot) -> Result<()> {
        match &self.op {
            Op::View(view) => self.read(view, rows, raw, slot),
            Op::Lora { input, .. } | Op::Noise { input, .. } | Op::Scale { input, .. } => input.fetch(rows, raw, slot),
            Op::Pad(input) => {
                let there = rows.start.min(input.rows)..rows.end.min(input.rows);
                input.fetch(there.clone(), &mut raw[..there.len() * slot.stride], slot)
            }
            Op::RowMap { input, map, rows_each } => runs(map, *rows_each, rows).try_for_each(|(at, from)| match from {
                Some(from) => {
                    let bytes = at * slot.stride..(at + from.len()) * slot.stride;
                    input.fetch(from, &mut raw[bytes], slot)
                }
                None => Ok(()),
            }),
            Op::Combine { inputs, .. } => {
                let mut offset = slot.offset;
                for input in inputs {
                    input.fetch(rows.clone(), raw, Slot { offset, ..slot })?;
                    offset += input.row_bytes;
                }
                Ok(())
            }
            Op::Fill(_) | Op::Computed(_) => Ok(()),
        }
    }

    /// Reads rows of a source, whose bytes may lie apart from each other in `raw`.
    fn read(&self, view: &TensorView, rows: Range<usize>, raw: &mut [u8], slot: Slot) -> Result<()> {
        let first = rows.start as u64 * self.row_bytes as u64;
        if slot.stride == self.row_bytes {
            return Ok(view.read_at(first, raw)?);
        }
        let mut own = vec![0; rows.len() * self.row_bytes];
        view.read_at(first, &mut own)?;
        for (row, own) in raw.chunks_exact_mut(slot.stride).zip(own.chunks_exact(self.row_bytes)) {
            row[slot.offset..slot.offset + self.row_bytes].copy_from_slice(own);
        }
        Ok(())
    }

    fn compute(&self, rows: Range<usize>, raw: &[u8], slot: Slot, context: Context<'_>, out: &mut [f32]) -> Result<()> {
        match &self.op {
            Op::View(view) => {
                if slot.stride == self.row_bytes {
                    element::widen(view.dtype, raw, out);
                } else {
                    for (row, out) in raw.chunks_exact(slot.stride).zip(out.chunks_exact_mut(self.columns)) {
                        element::widen(view.dtype, &row[slot.offset..slot.offset + self.row_bytes], out);
                    }
                }
            }
            Op::Lora { input, delta, round } => {
                input.compute(rows.clone(), raw, slot, context, out)?;
                delta.add_to(rows, out)?;
                if let Some(dtype) = round {
                    element::round_to(*dtype, out);
                }
            }
            Op::Noise { input, noise } => {
                let first = rows.start as u64 * self.columns as u64;
                input.compute(rows, raw, slot, context, out)?;
                add_noise(out, context.seed, &noise.name, first, noise.scale);
            }
            Op::Scale { input, factor } => {
                input.compute(rows, raw, slot, context, out)?;
                out.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
            }
            Op::Pad(input) => {
                let there = rows.start.min(input.rows)..rows.end.min(input.rows);
                let raw = &raw[..there.len() * slot.stride];
                self.pad(input, there, raw, slot, context, out)?;
            }
            Op::RowMap { input, map, rows_each } => {
                for (at, from) in runs(map, *rows_each, rows) {
                    let Some(from) = from else {
                        out[at * self.columns..(at + 1) * self.columns].fill(0.0);
                        continue;
                    };
                    let end = at + from.len();
                    let raw = &raw[at * slot.stride..end * slot.stride];
                    input.compute(from, raw, slot, context, &mut out[at * self.columns..end * self.columns])?;
                }
            }
            Op::Combine { inputs, kernel } => {
                let first = rows.start as u64 * self.columns as u64;
                let mut values = Vec::with_capacity(inputs.len());
                let mut offset = slot.offset;
                for input in inputs {
                    let mut own = vec![0.0; out.len()];
                    input.compute(rows.clone(), raw, Slot { offset, ..slot }, context, &mut own)?;
                    values.push(own);
                    offset += input.row_bytes;
                }
                kernel.merge(&mut values, Place { first, columns: self.columns }, out);
            }
            Op::Fill(value) => out.fill(*value),
            Op::Computed(name) => {
                let values = context.computed.values(name);
                let own = values.filter(|v| v.len() == self.rows * self.columns);
                let own = own.and_then(|v| v.get(rows.start * self.columns..rows.end * self.columns));
                let found = || values.map_or("nothing".to_owned(), |v| format!("{} numbers", v.len()));
                out.copy_from_slice(own.ok_or_else(|| {
                    Error::input(format!("the values computed for {name} do not fit it"))
                        .fact("expected", format!("[{}, {}]", self.rows, self.columns))
                        .fact("found", found())
                })?);
            }
        }
        Ok(())
    }

    /// Puts `rows` of `input`, which are the first of `out`'s, into `out`, zeros after them.
    fn pad(
        &self,
        input: &Node,
        rows: Range<usize>,
        raw: &[u8],
        slot: Slot,
        context: Context<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        let count = rows.len();
        if input.columns == self.columns {
            let (there, missing) = out.split_at_mut(count * self.columns);
            missing.fill(0.0);
            return input.compute(rows, raw, slot, context, there);
        }
        let mut narrow = vec![0.0; count * input.columns];
        input.compute(rows, raw, slot, context, &mut narrow)?;
        out.fill(0.0);
        for (row, values) in out.chunks_exact_mut(self.columns).zip(narrow.chunks_exact(input.columns.max(1))) {
            row[..input.columns].copy_from_slice(values);
        }
        Ok(())
    }
}

/// The parts of `rows` that `map` takes from consecutive rows, as (where they begin, where they come from): single rows
/// of zeros, or runs. An entry of `map` stands for `rows_each` rows, as in tensors of more than two dimensions.
fn runs(
    map: &[Option<usize>],
    rows_each: usize,
    rows: Range<usize>,
) -> impl Iterator<Item = (usize, Option<Range<usize>>)> {
    let source = move |row: usize| map.get(row / rows_each)?.map(|from| from * rows_each + row % rows_each);
    let mut at = 0;
    std::iter::from_fn(move || {
        let begin = at;
        if begin >= rows.len() {
            return None;
        }
        at += 1;
        let Some(first) = source(rows.start + begin) else { return Some((begin, None)) };
        while at < rows.len() && source(rows.start + at) == Some(first + at - begin) {
            at += 1;
        }
        Some((begin, Some(first..first + at - begin)))
    })
}

/// Wants what is merged to be of one shape.
fn same_shapes(method: &str, inputs: &[Expr]) -> Result<()> {
    let Some(first) = inputs.first() else { return Ok(()) };
    let Some(other) = inputs.iter().find(|input| input.shape() != first.shape()) else { return Ok(()) };
    let describe = |expr: &Expr| {
        let from = |view: &&TensorView| format!(": {} in {}", view.name, view.file.path.display());
        format!("{:?}{}", expr.shape(), expr.reads().first().map_or_else(String::new, from))
    };
    Err(Error::input(format!("{method} cannot merge tensors of different shapes"))
        .fact("one", describe(first))
        .fact("other", describe(other)))
}
