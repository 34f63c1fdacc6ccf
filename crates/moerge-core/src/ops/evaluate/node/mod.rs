//! A node of an expression tree: fetching and computing its rows.

mod row_map;

use std::{collections::HashMap, ops::Range, sync::Arc};

use moerge_checkpoint::{Dtype, TensorView};

use row_map::RowMap;

use super::ComputedValues;
use crate::{
    error::{Error, Result},
    numeric::{element, noise::add_noise},
    ops::{
        Expr, Noise,
        expr::rows_and_columns,
        inputs::{Inputs, Place, Preparation, Rows},
        lora::LoadedDelta,
        methods::Kernel,
    },
};

/// Elements per step if an adapter is merged, because its product is faster on many rows.
const ELEMENTS_WITH_LORA: usize = 1 << 20;
/// Elements per step otherwise: few enough to stay in a core's cache.
const ELEMENTS: usize = 64 << 10;
/// Elements per input and step of a merge method.
const ELEMENTS_TO_MERGE: usize = 16 << 10;

/// A node with its size.
pub(super) struct Node {
    op: Op,
    pub rows: usize,
    pub columns: usize,
    /// Fetched bytes per row.
    pub row_bytes: usize,
    /// Whether an adapter is merged somewhere in it.
    lora: bool,
}

enum Op {
    View(TensorView),
    Lora { input: Box<Node>, delta: LoadedDelta, round: Option<Dtype> },
    Noise { input: Box<Node>, noise: Noise },
    Scale { input: Box<Node>, factor: f64 },
    Pad(Box<Node>),
    PadWithMean { input: Box<Node>, mean: Vec<f32> },
    RowMap { input: Box<Node>, map: RowMap },
    Concat(Vec<Node>),
    Combine { inputs: Vec<Node>, kernel: Box<dyn Kernel> },
    Constant(Arc<[f32]>),
    Fill(f32),
    Computed(String),
}

/// The position of a node's bytes within the fetched bytes of a row.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    /// Fetched bytes per row of the root.
    pub stride: usize,
    /// The offset of the node's bytes.
    pub offset: usize,
}

/// Rows to compute, with their fetched bytes.
pub(super) struct Fetched<'a> {
    pub rows: Range<usize>,
    pub raw: &'a [u8],
    pub slot: Slot,
}

impl Fetched<'_> {
    /// The part at `at` of these rows, which are the rows `rows` of the node that computes them.
    fn part(&self, at: Range<usize>, rows: Range<usize>) -> Self {
        Self { rows, raw: &self.raw[at.start * self.slot.stride..at.end * self.slot.stride], slot: self.slot }
    }
}

/// Other inputs of computing.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub seed: u64,
    pub computed: &'a dyn ComputedValues,
}

impl Rows for &[Node] {
    fn count(&self) -> usize {
        self.len()
    }

    fn shape(&self) -> (usize, usize) {
        self.first().map_or((0, 0), |node| (node.rows, node.columns))
    }

    fn elements_at_once(&self) -> usize {
        self.iter().map(Node::elements_at_once).max().unwrap_or(1)
    }

    fn read(&self, rows: Range<usize>, seed: u64, raw: &mut Vec<u8>, values: &mut [Vec<f32>]) -> Result<()> {
        let nothing = HashMap::new();
        let context = Context { seed, computed: &nothing };
        for (node, values) in self.iter().zip(values) {
            let slot = Slot { stride: node.row_bytes, offset: 0 };
            raw.resize(rows.len() * node.row_bytes, 0);
            node.fetch(rows.clone(), raw, slot)?;
            values.resize(rows.len() * node.columns, 0.0);
            node.compute(&Fetched { rows: rows.clone(), raw, slot }, context, values)?;
        }
        Ok(())
    }
}

impl Node {
    pub fn new(expr: &Expr, preparation: &Preparation<'_>) -> Result<Self> {
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
            Expr::PadWithMean { .. } => {
                let input = input()?;
                let tensors = &std::slice::from_ref(&*input);
                let mean = Inputs { tensors, preparation, shape: expr.shape() }.mean_row()?;
                Op::PadWithMean { input, mean }
            }
            Expr::RowMap { map, .. } => {
                let input = input()?;
                let map = RowMap::new(map, &input, rows, columns)?;
                Op::RowMap { input, map }
            }
            Expr::Concat { inputs: exprs, shape } => {
                row_bytes = inputs.iter().map(|input| input.row_bytes).max().unwrap_or(0);
                let whole = inputs.iter().map(|input| input.rows).sum::<usize>() == rows;
                if !whole || inputs.iter().any(|input| input.columns != columns) {
                    let found: Vec<&[usize]> = exprs.iter().map(Expr::shape).collect();
                    return Err(Error::input("tensors do not make up the one that they are parts of")
                        .fact("expected", format!("{shape:?}"))
                        .fact("found", format!("{found:?}")));
                }
                Op::Concat(inputs)
            }
            Expr::Combine { method, inputs: exprs } => {
                same_shapes(method.name(), exprs)?;
                method.check(inputs.len())?;
                let kernel =
                    method.kernel(&Inputs { tensors: &inputs.as_slice(), preparation, shape: expr.shape() })?;
                Op::Combine { inputs, kernel }
            }
            Expr::Constant { values, .. } => {
                if values.len() != rows * columns {
                    return Err(Error::input("constants do not fill their tensor"));
                }
                Op::Constant(values.clone())
            }
            Expr::Fill { value, .. } => Op::Fill(*value),
            Expr::Computed { name, .. } => Op::Computed(name.clone()),
        };
        Ok(Self { op, rows, columns, row_bytes, lora: expr.merges_adapter() })
    }

    /// Appends the source bytes of `rows` to `raw`.
    pub fn fetch(&self, rows: Range<usize>, raw: &mut [u8], slot: Slot) -> Result<()> {
        match &self.op {
            Op::View(view) => self.read(view, rows, raw, slot),
            Op::Lora { input, .. } | Op::Noise { input, .. } | Op::Scale { input, .. } => input.fetch(rows, raw, slot),
            Op::Pad(input) | Op::PadWithMean { input, .. } => {
                let there = rows.start.min(input.rows)..rows.end.min(input.rows);
                input.fetch(there.clone(), &mut raw[..there.len() * slot.stride], slot)
            }
            Op::RowMap { input, map } => map.runs(rows).try_for_each(|(at, from)| match from {
                Some(from) => {
                    let bytes = at * slot.stride..(at + from.len()) * slot.stride;
                    input.fetch(from, &mut raw[bytes], slot)
                }
                None => Ok(()),
            }),
            Op::Concat(inputs) => parts(inputs, rows).try_for_each(|(input, at, from)| {
                let bytes = at.start * slot.stride..at.end * slot.stride;
                input.fetch(from, &mut raw[bytes], slot)
            }),
            Op::Combine { inputs, .. } => {
                let mut offset = slot.offset;
                for input in inputs {
                    input.fetch(rows.clone(), raw, Slot { offset, ..slot })?;
                    offset += input.row_bytes;
                }
                Ok(())
            }
            Op::Constant(_) | Op::Fill(_) | Op::Computed(_) => Ok(()),
        }
    }

    /// Reads rows of a source, which need not be contiguous in `raw`.
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

    /// Computes the rows of `fetched`.
    pub fn compute(&self, fetched: &Fetched<'_>, context: Context<'_>, out: &mut [f32]) -> Result<()> {
        let Fetched { rows, raw, slot } = fetched;
        let first = rows.start as u64 * self.columns as u64;
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
                input.compute(fetched, context, out)?;
                delta.add_to(rows.clone(), out)?;
                if let Some(dtype) = round {
                    element::round_to(*dtype, out);
                }
            }
            Op::Noise { input, noise } => {
                input.compute(fetched, context, out)?;
                add_noise(out, context.seed, &noise.name, first, noise.scale);
            }
            Op::Scale { input, factor } => {
                input.compute(fetched, context, out)?;
                out.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
            }
            Op::Pad(input) => self.pad(input, fetched, context, out)?,
            Op::PadWithMean { input, mean } => {
                let there = rows.start.min(input.rows)..rows.end.min(input.rows);
                let count = there.len();
                let (own, padding) = out.split_at_mut(count * self.columns);
                input.compute(&fetched.part(0..count, there), context, own)?;
                padding.chunks_exact_mut(self.columns.max(1)).for_each(|row| row.copy_from_slice(mean));
            }
            Op::RowMap { input, map } => {
                for (at, from) in map.runs(rows.clone()) {
                    let Some(from) = from else {
                        out[at * self.columns..(at + 1) * self.columns].fill(0.0);
                        continue;
                    };
                    let here = at..at + from.len();
                    let out = &mut out[here.start * self.columns..here.end * self.columns];
                    input.compute(&fetched.part(here, from), context, out)?;
                }
            }
            Op::Concat(inputs) => {
                for (input, at, from) in parts(inputs, rows.clone()) {
                    let out = &mut out[at.start * self.columns..at.end * self.columns];
                    input.compute(&fetched.part(at, from), context, out)?;
                }
            }
            Op::Combine { inputs, kernel } => self.combine(inputs, kernel.as_ref(), fetched, context, out)?,
            Op::Constant(values) => {
                out.copy_from_slice(&values[rows.start * self.columns..rows.end * self.columns]);
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

    /// Merges rows of `inputs`, a few at a time, so that they stay in a core's cache.
    fn combine(
        &self,
        inputs: &[Node],
        kernel: &dyn Kernel,
        fetched: &Fetched<'_>,
        context: Context<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        let at_once = self.rows_of(if self.lora { ELEMENTS_WITH_LORA } else { ELEMENTS_TO_MERGE });
        let mut values = vec![Vec::new(); inputs.len()];
        for at in (0..fetched.rows.len()).step_by(at_once) {
            let now = at..(at + at_once).min(fetched.rows.len());
            let first = fetched.rows.start + at;
            let mut part = fetched.part(now.clone(), first..first + now.len());
            for (input, values) in inputs.iter().zip(&mut values) {
                values.resize(now.len() * self.columns, 0.0);
                input.compute(&part, context, values)?;
                part.slot.offset += input.row_bytes;
            }
            let place = Place { first: first as u64 * self.columns as u64, columns: self.columns };
            kernel.merge(&mut values, place, &mut out[now.start * self.columns..now.end * self.columns]);
        }
        Ok(())
    }

    /// Writes the rows of `fetched` that `input` has to `out`, followed by zeros.
    fn pad(&self, input: &Node, fetched: &Fetched<'_>, context: Context<'_>, out: &mut [f32]) -> Result<()> {
        let there = fetched.rows.start.min(input.rows)..fetched.rows.end.min(input.rows);
        let count = there.len();
        let fetched = fetched.part(0..count, there);
        if input.columns == self.columns {
            let (there, missing) = out.split_at_mut(count * self.columns);
            missing.fill(0.0);
            return input.compute(&fetched, context, there);
        }
        let mut narrow = vec![0.0; count * input.columns];
        input.compute(&fetched, context, &mut narrow)?;
        out.fill(0.0);
        for (row, values) in out.chunks_exact_mut(self.columns).zip(narrow.chunks_exact(input.columns.max(1))) {
            row[..input.columns].copy_from_slice(values);
        }
        Ok(())
    }

    /// The number of rows with about this many elements; at least one.
    pub fn rows_of(&self, elements: usize) -> usize {
        (elements / self.columns.max(1)).max(1)
    }

    /// The best number of elements per step.
    pub fn elements_at_once(&self) -> usize {
        if self.lora { ELEMENTS_WITH_LORA } else { ELEMENTS }
    }
}

/// The parts of `rows` of tensors that lie one after the other: the tensor, where the part is among `rows`, and which
/// of the tensor's own rows it is.
fn parts(inputs: &[Node], rows: Range<usize>) -> impl Iterator<Item = (&Node, Range<usize>, Range<usize>)> {
    let mut begin = 0;
    inputs.iter().filter_map(move |input| {
        let own = begin..begin + input.rows;
        begin = own.end;
        let (first, end) = (rows.start.max(own.start), rows.end.min(own.end));
        (first < end).then(|| (input, first - rows.start..end - rows.start, first - own.start..end - own.start))
    })
}

/// Checks that all inputs have the same shape.
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
