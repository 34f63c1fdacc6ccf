//! The weighted mean of several sources' elements, some rows at a time.

use std::ops::Range;

use super::change::Change;
use crate::{
    error::Result,
    numeric::element,
    plan::{Average, Transform},
};

/// An average with its adapters' A in memory.
pub struct Averaging<'a> {
    parts: Vec<(&'a Transform, Change<'a>, f64)>,
}

impl<'a> Averaging<'a> {
    /// Reads what has to be in memory.
    pub fn new(average: &'a Average) -> Result<Self> {
        let total: f64 = average.parts.iter().map(|(_, weight)| weight).sum();
        let part = |(step, weight): &'a (Transform, f64)| Ok((step, Change::new(step)?, weight / total));
        Ok(Self { parts: average.parts.iter().map(part).collect::<Result<_>>()? })
    }

    /// Bytes of a row of all parts together.
    fn row_bytes(&self, width: usize) -> usize {
        self.parts.iter().map(|(step, ..)| width * step.view.dtype.size_bits() as usize / 8).sum()
    }

    /// Reads `rows` of `width` elements of every part: row after row, and in a row part after part.
    pub fn fetch(&self, rows: Range<usize>, width: usize, raw: &mut Vec<u8>) -> Result<()> {
        let row_bytes = self.row_bytes(width);
        raw.clear();
        raw.resize(rows.len() * row_bytes, 0);
        let mut own = Vec::new();
        let mut start = 0;
        for (step, ..) in &self.parts {
            let own_bytes = width * step.view.dtype.size_bits() as usize / 8;
            own.resize(rows.len() * own_bytes, 0);
            step.view.rows(rows.clone())?.read_at(0, &mut own)?;
            for (row, own) in raw.chunks_exact_mut(row_bytes).zip(own.chunks_exact(own_bytes)) {
                row[start..start + own_bytes].copy_from_slice(own);
            }
            start += own_bytes;
        }
        Ok(())
    }

    /// The mean of what [`Averaging::fetch`] read. Sums are f64, part after part.
    pub fn mean(&self, seed: u64, rows: Range<usize>, raw: &[u8], out: &mut [f32]) -> Result<()> {
        let width = out.len() / rows.len().max(1);
        let row_bytes = self.row_bytes(width);
        let mut sums = vec![0.0f64; out.len()];
        let mut start = 0;
        for (step, change, weight) in &self.parts {
            let own_bytes = width * step.view.dtype.size_bits() as usize / 8;
            for (row, out) in raw.chunks_exact(row_bytes).zip(out.chunks_exact_mut(width)) {
                element::widen(step.view.dtype, &row[start..start + own_bytes], out);
            }
            change.apply(seed, rows.clone(), width, out)?;
            sums.iter_mut().zip(out.iter()).for_each(|(sum, x)| *sum += weight * f64::from(*x));
            start += own_bytes;
        }
        out.iter_mut().zip(sums).for_each(|(x, sum)| *x = sum as f32);
        Ok(())
    }
}
