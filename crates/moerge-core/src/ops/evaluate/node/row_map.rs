//! Reorders slices along a tensor's first dimension.

use std::{ops::Range, sync::Arc};

use super::Node;
use crate::error::{Error, Result};

/// A map of slices, as rows.
pub(super) struct RowMap {
    /// The source of each slice; `None` for zeros.
    map: Arc<[Option<usize>]>,
    /// Rows per slice: more than one if the tensor has more than two dimensions.
    rows_each: usize,
}

impl RowMap {
    /// A map from the rows of `input` to a tensor of `rows` and `columns`.
    ///
    /// # Errors
    /// It does not fit the tensors.
    pub fn new(map: &Arc<[Option<usize>]>, input: &Node, rows: usize, columns: usize) -> Result<Self> {
        let rows_each = rows.checked_div(map.len()).unwrap_or(0);
        let there =
            |from: &usize| from.checked_mul(rows_each).is_some_and(|first| first < input.rows || rows_each == 0);
        if rows_each * map.len() != rows || input.columns != columns || !map.iter().flatten().all(there) {
            return Err(Error::input("a map of rows does not fit its tensor")
                .fact("tensor", format!("[{}, {}]", input.rows, input.columns))
                .fact("mapped", format!("{} entries for [{rows}, {columns}]", map.len())));
        }
        Ok(Self { map: map.clone(), rows_each })
    }

    /// Splits `rows` into runs of consecutive source rows, as (start, source): single rows of zeros, or runs.
    pub fn runs(&self, rows: Range<usize>) -> impl Iterator<Item = (usize, Option<Range<usize>>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let begin = at;
            if begin >= rows.len() {
                return None;
            }
            at += 1;
            let Some(first) = self.source(rows.start + begin) else { return Some((begin, None)) };
            while at < rows.len() && self.source(rows.start + at) == Some(first + at - begin) {
                at += 1;
            }
            Some((begin, Some(first..first + at - begin)))
        })
    }

    fn source(&self, row: usize) -> Option<usize> {
        let slice = row.checked_div(self.rows_each)?;
        self.map.get(slice)?.map(|from| from * self.rows_each + row % self.rows_each)
    }
}
