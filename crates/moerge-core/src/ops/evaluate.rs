//! Rows of an expression, in f32.
//!
//! Getting rows is two steps, because two different things limit them: [`Evaluator::fetch`] waits for the disk and can
//! run ahead, [`Evaluator::compute`] computes. What is fetched for a row is what its sources store for it, one source
//! after the other, the same number of bytes for every row; so fetched rows can be computed in smaller parts.
//!
//! Results do not depend on how a tensor is cut into rows, nor on threads.

mod inputs;
mod node;
mod row_map;

use std::{collections::HashMap, ops::Range};

pub(super) use inputs::{Inputs, Place};
use node::{Context, Fetched, Node, Slot};

use super::Expr;
use crate::error::Result;

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

/// An expression that is ready to give its rows: adapters' A matrices are in memory, and methods that need statistics of
/// whole tensors have them.
pub struct Evaluator {
    node: Node,
    seed: u64,
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
        self.node.compute(&Fetched { rows, raw, slot }, Context { seed: self.seed, computed }, out)
    }
}
