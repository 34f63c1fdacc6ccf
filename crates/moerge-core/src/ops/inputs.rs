//! Passes over the inputs of a merge method, to compute statistics of whole tensors.
//!
//! A pass holds one piece of each input per thread and folds piece by piece, so memory does not grow with the tensors.
//! The tensors are split in the same way on every machine: into pieces of whole rows, and segments of pieces. One
//! thread folds a segment, and segments are joined in order, so sums do not depend on threads.

use std::ops::Range;

use moerge_checkpoint::workers;

use crate::error::{Error, Result};

/// Pieces per segment. Few in tests, so that small tensors have several segments.
const PIECES: usize = if cfg!(test) { 2 } else { 64 };

/// How an expression is prepared.
pub struct Preparation<'a> {
    /// Seed of noise and of random masks.
    pub seed: u64,
    /// Threads for passes over whole tensors; results do not depend on it.
    pub threads: usize,
    /// Called often during such passes; an error ends them.
    pub check: &'a (dyn Fn() -> Result<()> + Sync),
}

/// Tensors of one shape that are read some rows at a time.
pub(super) trait Rows: Sync {
    /// The number of tensors.
    fn count(&self) -> usize;
    /// Rows and columns of each.
    fn shape(&self) -> (usize, usize);
    /// How many elements of each are best read at once.
    fn elements_at_once(&self) -> usize;
    /// Reads `rows` of all into `values`, a vector for each. `raw` is space that is used again.
    fn read(&self, rows: Range<usize>, seed: u64, raw: &mut Vec<u8>, values: &mut [Vec<f32>]) -> Result<()>;
}

/// The inputs of a method.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub(super) tensors: &'a dyn Rows,
    pub(super) preparation: &'a Preparation<'a>,
    /// The shape of each tensor.
    pub shape: &'a [usize],
}

/// The position of rows in their tensor.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The index of their first element.
    pub first: u64,
    /// Elements per row.
    pub columns: usize,
}

impl Inputs<'_> {
    /// The number of tensors.
    pub fn count(&self) -> usize {
        self.tensors.count()
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
        self.tensors.shape().0
    }

    /// Columns of each.
    pub fn columns(&self) -> usize {
        self.tensors.shape().1
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
        let (mut raw, mut values) = (Vec::new(), vec![Vec::new(); self.count()]);
        for first in rows.clone().step_by(at_once) {
            (self.preparation.check)()?;
            let now = first..(first + at_once).min(rows.end);
            self.tensors.read(now, self.seed(), &mut raw, &mut values)?;
            look(&mut values, Place { first: first as u64 * columns as u64, columns });
        }
        Ok(())
    }

    fn piece_rows(&self) -> usize {
        (self.tensors.elements_at_once() / self.columns().max(1)).max(1)
    }

    fn segment_rows(&self) -> usize {
        self.piece_rows() * PIECES
    }
}
