//! Evaluates rows of an expression in f32.
//!
//! Rows are made in two steps: [`Evaluator::fetch`] is limited by the disk and can run ahead; [`Evaluator::compute`] is
//! limited by the processor. The fetched bytes of a row are those of its sources, one after the other, with the same
//! number of bytes per row, so fetched rows can be computed in smaller parts.
//!
//! Results depend neither on how a tensor is split into rows nor on threads.

mod node;

use std::{collections::HashMap, ops::Range};

use node::{Context, Fetched, Node, Slot};

use super::{Expr, inputs::Preparation};
use crate::error::Result;

/// Values of computed tensors in row-major order.
pub trait ComputedValues: Sync {
    /// The values of the tensor `name`; `None` if they are not known yet.
    fn values(&self, name: &str) -> Option<&[f32]>;

    /// How much the columns of the tensor `name` count when it is quantised: a number per column, for each matrix of a
    /// stack.
    fn importance(&self, _name: &str) -> Option<&[f32]> {
        None
    }
}

impl ComputedValues for HashMap<String, Vec<f32>> {
    fn values(&self, name: &str) -> Option<&[f32]> {
        self.get(name).map(Vec::as_slice)
    }
}

/// A prepared expression: the A matrices of adapters are in memory, and the statistics of merge methods are computed.
pub struct Evaluator {
    node: Node,
    seed: u64,
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
        Ok(Self { node: Node::new(expr, preparation)?, seed: preparation.seed })
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.node.rows, self.node.columns)
    }

    /// How many rows are best computed at once.
    pub fn rows_at_once(&self) -> usize {
        let rows = self.node.rows_of(self.node.elements_at_once());
        rows.min(self.node.rows.max(1))
    }

    /// Replaces the content of `raw` by the source bytes of `rows`. Only reads; computes nothing.
    ///
    /// # Errors
    /// A source cannot be read.
    pub fn fetch(&self, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()> {
        let stride = self.node.row_bytes;
        let length = rows.len() * stride;
        // Reserve exactly: a buffer that doubles would exceed the stated memory.
        raw.truncate(length);
        raw.reserve_exact(length - raw.len());
        raw.resize(length, 0);
        self.node.fetch(rows, raw, Slot { stride, offset: 0 })
    }

    /// Computes `rows` from `raw`, which [`Evaluator::fetch`] filled for exactly these rows.
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
        self.node.compute(&Fetched { rows, raw, slot }, Context { seed: self.seed, computed }, out)
    }
}
