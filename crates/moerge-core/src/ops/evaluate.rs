//! Rows of an expression, in f32.
//!
//! Getting rows is two steps, because two different things limit them: [`Evaluator::fetch`] waits for the disk and can
//! run ahead, [`Evaluator::compute`] computes. What is fetched for a row is what its sources store for it, one source
//! after the other, the same number of bytes for every row; so fetched rows can be computed in smaller parts.
//!
//! Results do not depend on how a tensor is cut into rows, nor on threads.

use std::{collections::HashMap, ops::Range, sync::Arc};

use moerge_checkpoint::{Dtype, TensorView};

use super::{
    Expr, Noise,
    expr::rows_and_columns,
    lora::LoadedDelta,
    methods::{self, Kernel},
};
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
    RowMap { input: Box<Node>, map: Arc<[Option<usize>]> },
    Combine { inputs: Vec<Node>, kernel: Box<dyn Kernel> },
    Fill(f32),
    Computed(String),
}

/// The inputs of a method, for a pass over whole tensors.
pub(super) struct Inputs<'a> {
    nodes: &'a [Node],
    seed: u64,
}

/// Where the bytes of a node's rows lie among those fetched for whole rows.
#[derive(Clone, Copy)]
struct Place {
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
    /// Prepares `expr`; `seed` is that of its noise.
    ///
    /// # Errors
    /// An adapter or a source cannot be read.
    pub fn new(expr: &Expr, seed: u64) -> Result<Self> {
        Ok(Self { node: Node::new(expr, seed)?, seed, lora: expr.merges_adapter() })
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
        self.node.fetch(rows, raw, Place { stride, offset: 0 })
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
        let place = Place { stride: self.node.row_bytes, offset: 0 };
        self.node.compute(rows, raw, place, Context { seed: self.seed, computed }, out)
    }
}

impl Node {
    fn new(expr: &Expr, seed: u64) -> Result<Self> {
        let (rows, columns) = rows_and_columns(expr.shape());
        let mut inputs = expr.inputs().iter().map(|input| Node::new(input, seed)).collect::<Result<Vec<_>>>()?;
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
            Expr::RowMap { map, .. } => Op::RowMap { input: input()?, map: map.clone() },
            Expr::Combine { method, .. } => {
                let kernel = method.kernel(&Inputs { nodes: &inputs, seed })?;
                Op::Combine { inputs, kernel }
            }
            Expr::Fill { value, .. } => Op::Fill(*value),
            Expr::Computed { name, .. } => Op::Computed(name.clone()),
        };
        Ok(Self { op, rows, columns, row_bytes })
    }

    fn fetch(&self, rows: Range<usize>, raw: &mut [u8], place: Place) -> Result<()> {
        match &self.op {
            Op::View(view) => self.read(view, rows, raw, place),
            Op::Lora { input, .. } | Op::Noise { input, .. } | Op::Scale { input, .. } => input.fetch(rows, raw, place),
            Op::Pad(input) => {
                let there = rows.start.min(input.rows)..rows.end.min(input.rows);
                input.fetch(there.clone(), &mut raw[..there.len() * place.stride], place)
            }
            Op::RowMap { input, map } => runs(map, rows).try_for_each(|(at, from)| match from {
                Some(from) => {
                    let bytes = at * place.stride..(at + from.len()) * place.stride;
                    input.fetch(from, &mut raw[bytes], place)
                }
                None => Ok(()),
            }),
            Op::Combine { inputs, .. } => {
                let mut offset = place.offset;
                for input in inputs {
                    input.fetch(rows.clone(), raw, Place { offset, ..place })?;
                    offset += input.row_bytes;
                }
                Ok(())
            }
            Op::Fill(_) | Op::Computed(_) => Ok(()),
        }
    }

    /// Reads rows of a source, whose bytes may lie apart from each other in `raw`.
    fn read(&self, view: &TensorView, rows: Range<usize>, raw: &mut [u8], place: Place) -> Result<()> {
        let first = rows.start as u64 * self.row_bytes as u64;
        if place.stride == self.row_bytes {
            return Ok(view.read_at(first, raw)?);
        }
        let mut own = vec![0; rows.len() * self.row_bytes];
        view.read_at(first, &mut own)?;
        for (row, own) in raw.chunks_exact_mut(place.stride).zip(own.chunks_exact(self.row_bytes)) {
            row[place.offset..place.offset + self.row_bytes].copy_from_slice(own);
        }
        Ok(())
    }

    fn compute(
        &self,
        rows: Range<usize>,
        raw: &[u8],
        place: Place,
        context: Context<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        match &self.op {
            Op::View(view) => {
                if place.stride == self.row_bytes {
                    element::widen(view.dtype, raw, out);
                } else {
                    for (row, out) in raw.chunks_exact(place.stride).zip(out.chunks_exact_mut(self.columns)) {
                        element::widen(view.dtype, &row[place.offset..place.offset + self.row_bytes], out);
                    }
                }
            }
            Op::Lora { input, delta, round } => {
                input.compute(rows.clone(), raw, place, context, out)?;
                delta.add_to(rows, out)?;
                if let Some(dtype) = round {
                    element::round_to(*dtype, out);
                }
            }
            Op::Noise { input, noise } => {
                let first = rows.start as u64 * self.columns as u64;
                input.compute(rows, raw, place, context, out)?;
                add_noise(out, context.seed, &noise.name, first, noise.scale);
            }
            Op::Scale { input, factor } => {
                input.compute(rows, raw, place, context, out)?;
                out.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
            }
            Op::Pad(input) => {
                let there = rows.start.min(input.rows)..rows.end.min(input.rows);
                let raw = &raw[..there.len() * place.stride];
                self.pad(input, there, raw, place, context, out)?;
            }
            Op::RowMap { input, map } => {
                for (at, from) in runs(map, rows) {
                    let Some(from) = from else {
                        out[at * self.columns..(at + 1) * self.columns].fill(0.0);
                        continue;
                    };
                    let end = at + from.len();
                    let raw = &raw[at * place.stride..end * place.stride];
                    input.compute(from, raw, place, context, &mut out[at * self.columns..end * self.columns])?;
                }
            }
            Op::Combine { inputs, kernel } => {
                let first = rows.start as u64 * self.columns as u64;
                let mut values = Vec::with_capacity(inputs.len());
                let mut offset = place.offset;
                for input in inputs {
                    let mut own = vec![0.0; out.len()];
                    input.compute(rows.clone(), raw, Place { offset, ..place }, context, &mut own)?;
                    values.push(own);
                    offset += input.row_bytes;
                }
                kernel.merge(&values, methods::Place { first, columns: self.columns }, out);
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
        place: Place,
        context: Context<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        let count = rows.len();
        if input.columns == self.columns {
            let (there, missing) = out.split_at_mut(count * self.columns);
            missing.fill(0.0);
            return input.compute(rows, raw, place, context, there);
        }
        let mut narrow = vec![0.0; count * input.columns];
        input.compute(rows, raw, place, context, &mut narrow)?;
        out.fill(0.0);
        for (row, values) in out.chunks_exact_mut(self.columns).zip(narrow.chunks_exact(input.columns.max(1))) {
            row[..input.columns].copy_from_slice(values);
        }
        Ok(())
    }
}

/// The parts of `rows` that `map` takes from consecutive rows, as (where they begin, where they come from): single rows
/// of zeros, or runs.
fn runs(map: &[Option<usize>], rows: Range<usize>) -> impl Iterator<Item = (usize, Option<Range<usize>>)> {
    let map = &map[rows];
    let mut at = 0;
    std::iter::from_fn(move || {
        let begin = at;
        let first = *map.get(begin)?;
        at += 1;
        let Some(first) = first else { return Some((begin, None)) };
        while map.get(at).copied().flatten() == Some(first + at - begin) {
            at += 1;
        }
        Some((begin, Some(first..first + at - begin)))
    })
}

impl Inputs<'_> {
    /// How many tensors there are.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Calls `look` with the same elements of all inputs, from the first to the last. The pieces are the same on every
    /// machine, so that sums over them are, too.
    ///
    /// # Errors
    /// A source cannot be read.
    pub fn for_each(&self, look: &mut dyn FnMut(&[Vec<f32>])) -> Result<()> {
        let Some(Node { rows, columns, .. }) = self.nodes.first() else { return Ok(()) };
        let stride = self.nodes.iter().map(|node| node.row_bytes).max().unwrap_or(0);
        let at_once = (ELEMENTS / columns.max(&1)).max(1);
        let nothing = HashMap::new();
        let context = Context { seed: self.seed, computed: &nothing };
        let mut raw = Vec::with_capacity(at_once * stride);
        let mut values = vec![Vec::new(); self.nodes.len()];
        for first in (0..*rows).step_by(at_once) {
            let now = first..(first + at_once).min(*rows);
            for (node, values) in self.nodes.iter().zip(&mut values) {
                let place = Place { stride: node.row_bytes, offset: 0 };
                raw.resize(now.len() * node.row_bytes, 0);
                node.fetch(now.clone(), &mut raw, place)?;
                values.resize(now.len() * columns, 0.0);
                node.compute(now.clone(), &raw, place, context, values)?;
            }
            look(&values);
        }
        Ok(())
    }
}
