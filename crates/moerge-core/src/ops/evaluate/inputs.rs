//! Passes over the inputs of a merge method, to compute statistics of whole tensors.
//!
//! A pass holds one piece of each input per thread and folds piece by piece, so memory does not grow with the tensors.
//! The tensors are split in the same way on every machine: into pieces of whole rows, and segments of pieces. One
//! thread folds a segment, and segments are joined in order, so sums do not depend on threads.

use std::{collections::HashMap, ops::Range};

use moerge_checkpoint::workers;

use super::{
    Preparation,
    node::{Context, Fetched, Node, Slot},
};
use crate::error::{Error, Result};

/// Pieces per segment. Few in tests, so that small tensors have several segments.
const PIECES: usize = if cfg!(test) { 2 } else { 64 };

/// The inputs of a method.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Inputs<'a> {
    pub(super) nodes: &'a [Node],
    pub(super) preparation: &'a Preparation<'a>,
    pub(super) shape: &'a [usize],
}

/// The position of rows in their tensor.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Place {
    /// The index of their first element.
    pub first: u64,
    /// Elements per row.
    pub columns: usize,
}

impl Inputs<'_> {
    /// The number of tensors.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether they have at most one dimension. Then the whole tensor counts as one row.
    pub fn is_vector(&self) -> bool {
        self.shape.len() < 2
    }

    /// The shape of each.
    pub fn shape(&self) -> &[usize] {
        self.shape
    }

    /// Rows of each.
    pub fn rows(&self) -> usize {
        self.nodes.first().map_or(0, |node| node.rows)
    }

    /// Columns of each.
    pub fn columns(&self) -> usize {
        self.nodes.first().map_or(0, |node| node.columns)
    }

    /// Elements of each.
    pub fn elements(&self) -> u64 {
        self.rows() as u64 * self.columns() as u64
    }

    /// The seed of random masks.
    pub fn seed(&self) -> u64 {
        self.preparation.seed
    }

    /// The mean of the rows of the first tensor; zeros if it has none.
    ///
    /// # Errors
    /// A source cannot be read, or the run was interrupted.
    pub fn mean_row(&self) -> Result<Vec<f32>> {
        let columns = self.columns();
        let sums = self.fold(
            || vec![0.0f64; columns],
            |sums, piece, _| {
                for row in piece.iter().flat_map(|values| values.chunks_exact(columns.max(1))) {
                    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
                }
            },
            |sums, others| sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other),
        )?;
        let rows = self.rows().max(1) as f64;
        Ok(sums.into_iter().map(|sum| (sum / rows) as f32).collect())
    }

    /// Calls `look` with every piece, which it may modify: the same rows of all inputs, and their position. The state
    /// of a segment is created by `start`; `join` adds that of later segments.
    ///
    /// # Errors
    /// A source cannot be read, or the run was interrupted.
    pub fn fold<S: Send>(
        &self,
        start: impl Fn() -> S + Sync,
        look: impl Fn(&mut S, &mut [Vec<f32>], Place) + Sync,
        join: impl Fn(&mut S, S),
    ) -> Result<S> {
        let mut all = start();
        let segments: Vec<usize> = (0..self.segments()).collect();
        for round in segments.chunks(self.preparation.threads.max(1)) {
            let folded = workers::try_map(round, round.len(), |segment| {
                let mut own = start();
                self.for_each_in(*segment, &mut |inputs, place| look(&mut own, inputs, place))?;
                Ok(own)
            });
            folded.map_err(|(_, error): (usize, Error)| error)?.into_iter().for_each(|own| join(&mut all, own));
        }
        Ok(all)
    }

    /// The number of segments of a pass.
    pub fn segments(&self) -> usize {
        self.rows().div_ceil(self.segment_rows())
    }

    /// Calls `look` with the pieces of a segment, in order.
    ///
    /// # Errors
    /// A source cannot be read, or the run was interrupted.
    pub fn for_each_in(&self, segment: usize, look: &mut dyn FnMut(&mut [Vec<f32>], Place)) -> Result<()> {
        let (columns, at_once) = (self.columns(), self.piece_rows());
        let rows = segment * self.segment_rows()..((segment + 1) * self.segment_rows()).min(self.rows());
        let (mut raw, mut values) = (Vec::new(), vec![Vec::new(); self.nodes.len()]);
        for first in rows.clone().step_by(at_once) {
            (self.preparation.check)()?;
            let now = first..(first + at_once).min(rows.end);
            self.read(now, &mut raw, &mut values)?;
            look(&mut values, Place { first: first as u64 * columns as u64, columns });
        }
        Ok(())
    }

    fn read(&self, rows: Range<usize>, raw: &mut Vec<u8>, values: &mut [Vec<f32>]) -> Result<()> {
        let nothing = HashMap::new();
        let context = Context { seed: self.seed(), computed: &nothing };
        for (node, values) in self.nodes.iter().zip(values) {
            let slot = Slot { stride: node.row_bytes, offset: 0 };
            raw.resize(rows.len() * node.row_bytes, 0);
            node.fetch(rows.clone(), raw, slot)?;
            values.resize(rows.len() * node.columns, 0.0);
            node.compute(&Fetched { rows: rows.clone(), raw, slot }, context, values)?;
        }
        Ok(())
    }

    fn piece_rows(&self) -> usize {
        let elements = self.nodes.iter().map(Node::elements_at_once).max().unwrap_or(1);
        (elements / self.columns().max(1)).max(1)
    }

    fn segment_rows(&self) -> usize {
        self.piece_rows() * PIECES
    }
}
