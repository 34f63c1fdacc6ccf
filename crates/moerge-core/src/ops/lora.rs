//! `W + scale * B A`, some rows at a time.

use std::ops::Range;

use moerge_checkpoint::TensorView;
use ndarray::Array2;

use super::LoraDelta;
use crate::{
    error::{Error, Result},
    numeric::element,
};

/// A LoRA delta with A in memory; B is read along with the rows.
pub(super) struct LoadedDelta {
    delta: LoraDelta,
    /// `scale * A`, `[rank, inputs]`.
    a: Array2<f32>,
}

impl LoadedDelta {
    /// Reads A.
    pub fn new(delta: LoraDelta) -> Result<Self> {
        let (rank, inputs) = (delta.a.shape[0], delta.a.shape[1]);
        let mut a = read(&delta.a)?;
        a.iter_mut().for_each(|x| *x = (f64::from(*x) * delta.scale) as f32);
        Ok(Self { delta, a: matrix(a, (rank, inputs))? })
    }

    /// Adds the delta to rows `rows` of the weight, which are `values`.
    pub fn add_to(&self, rows: Range<usize>, values: &mut [f32]) -> Result<()> {
        let b = matrix(read(&self.delta.b.rows(rows.clone())?)?, (rows.len(), self.a.nrows()))?;
        let product = b.dot(&self.a);
        values.iter_mut().zip(&product).for_each(|(x, delta)| *x += delta);
        Ok(())
    }
}

fn matrix(values: Vec<f32>, shape: (usize, usize)) -> Result<Array2<f32>> {
    Array2::from_shape_vec(shape, values).map_err(|e| Error::input(format!("a LoRA factor is not {shape:?}: {e}")))
}

fn read(view: &TensorView) -> Result<Vec<f32>> {
    let mut values = vec![0.0; view.elements() as usize];
    element::widen(view.dtype, &view.read()?, &mut values);
    Ok(values)
}
