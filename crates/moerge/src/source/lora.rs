//! `W + scale * B A`, a few rows at a time.

use std::ops::Range;

use checkpoint::TensorView;

use crate::{element, error::Result, source::LoraDelta};

/// A LoRA delta with A in memory; B is read along with the rows.
#[derive(Debug)]
pub struct LoadedDelta<'a> {
    delta: &'a LoraDelta,
    /// `[rank, inputs]`, already multiplied with the scale.
    a: Vec<f32>,
    rank: usize,
    inputs: usize,
}

impl<'a> LoadedDelta<'a> {
    /// Reads A.
    pub fn new(delta: &'a LoraDelta) -> Result<Self> {
        let (rank, inputs) = (delta.a.shape[0], delta.a.shape[1]);
        let mut a = read(&delta.a)?;
        a.iter_mut().for_each(|x| *x = (f64::from(*x) * delta.scale) as f32);
        Ok(Self { delta, a, rank, inputs })
    }

    /// Adds the delta to rows `rows` of the weight, which are `values`.
    pub fn add_to(&self, rows: Range<usize>, values: &mut [f32]) -> Result<()> {
        let b = read(&self.delta.b.rows(rows)?)?;
        for (row, weights) in values.chunks_exact_mut(self.inputs).zip(b.chunks_exact(self.rank)) {
            for (a, weight) in self.a.chunks_exact(self.inputs).zip(weights) {
                for (x, a) in row.iter_mut().zip(a) {
                    *x += weight * a;
                }
            }
        }
        Ok(())
    }
}

fn read(view: &TensorView) -> Result<Vec<f32>> {
    let mut values = vec![0.0; view.elements() as usize];
    element::widen(view.dtype, &view.read()?, &mut values);
    Ok(values)
}
