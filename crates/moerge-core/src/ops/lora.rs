//! `W + scale * B A`, some rows at a time. Adapters of embeddings are stored transposed; see [`LoraDelta`].

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
        let [first, second] = delta.a.shape[..] else {
            return Err(Error::input(format!("{} is not a matrix: {:?}", delta.a.name, delta.a.shape)));
        };
        let mut a = read(&delta.a)?;
        a.iter_mut().for_each(|x| *x = (f64::from(*x) * delta.scale) as f32);
        let stored = matrix(a, (first, second))?;
        let a = if delta.transposed { stored.reversed_axes().as_standard_layout().into_owned() } else { stored };
        Ok(Self { delta, a })
    }

    /// Adds the delta to rows `rows` of the weight, which are `values`.
    pub fn add_to(&self, rows: Range<usize>, values: &mut [f32]) -> Result<()> {
        let product = if self.delta.transposed {
            self.columns_of_b(rows)?.t().dot(&self.a)
        } else {
            matrix(read(&self.delta.b.rows(rows.clone())?)?, (rows.len(), self.a.nrows()))?.dot(&self.a)
        };
        values.iter_mut().zip(&product).for_each(|(x, delta)| *x += delta);
        Ok(())
    }

    /// The columns `columns` of B as it is stored transposed, `[rank, outputs]`.
    fn columns_of_b(&self, columns: Range<usize>) -> Result<Array2<f32>> {
        let (view, rank) = (&self.delta.b, self.a.nrows());
        let bytes_each = view.dtype.size_bits() / 8;
        let all = view.shape.get(1).copied().unwrap_or(0) as u64;
        let mut raw = vec![0; columns.len() * bytes_each as usize];
        let mut values = vec![0.0; rank * columns.len()];
        for (row, values) in values.chunks_exact_mut(columns.len().max(1)).enumerate() {
            view.read_at((row as u64 * all + columns.start as u64) * bytes_each as u64, &mut raw)?;
            element::widen(view.dtype, &raw, values);
        }
        matrix(values, (rank, columns.len()))
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
