//! f32 matrix products: candle's on the CPU, with reused buffers.
//!
//! The rest of the decoder works on plain slices. A chunk of weights is converted into a [`Scratch`] and multiplied
//! there, so no memory is allocated per chunk.

use std::{
    cell::Cell,
    sync::{Mutex, PoisonError},
};

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Storage, Tensor};

use super::{activations::Activations, weights::bug};
use moerge_core::error::{Error, Result};

/// An operand of a product, in f32.
pub struct Operand(Tensor);

/// A buffer for one chunk of weights.
pub(super) struct Scratch {
    weights: usize,
    values: Tensor,
}

/// Free buffers: at most one per thread and nested product.
#[derive(Default)]
pub(super) struct ScratchPool(Mutex<Vec<Scratch>>);

impl Operand {
    pub(super) fn new(x: &Activations) -> Result<Self> {
        Tensor::from_slice(x.values(), (x.features(), x.columns()), &Device::Cpu).map(Self).map_err(bug)
    }

    pub(super) fn row(&self, index: usize) -> Result<Vec<f32>> {
        self.0.get(index).and_then(|row| row.to_vec1()).map_err(bug)
    }

    /// A view of the rows `first..first + rows` and the columns `column..column + columns`.
    pub(super) fn block(&self, first: usize, rows: usize, column: usize, columns: usize) -> Result<Self> {
        self.0.narrow(0, first, rows).and_then(|t| t.narrow(1, column, columns)).map(Self).map_err(bug)
    }

    /// A transposed view.
    pub(super) fn transposed(&self) -> Result<Self> {
        self.0.t().map(Self).map_err(bug)
    }

    /// From `values` in row-major order.
    pub fn from_rows(values: Vec<f32>, columns: usize) -> Result<Self> {
        let rows = values.len() / columns.max(1);
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).map(Self).map_err(bug)
    }

    /// `self . right` in row-major order.
    pub fn times(&self, right: &Self) -> Result<Vec<f32>> {
        with_values(&self.0.matmul(&right.0).map_err(bug)?, <[f32]>::to_vec)
    }
}

impl Scratch {
    fn new(weights: usize) -> Result<Self> {
        let values = Tensor::zeros(weights, candle_core::DType::F32, &Device::Cpu).map_err(bug)?;
        Ok(Self { weights, values })
    }

    /// Calls `fill` to write `rows` rows of `columns` weights, then writes their product with `x` to `out` in row-major
    /// order.
    pub(super) fn multiply(
        &self,
        (rows, columns): (usize, usize),
        fill: impl FnOnce(&mut [f32]) -> Result<()>,
        x: &Operand,
        out: &mut [f32],
    ) -> Result<()> {
        let filling = Fill { weights: rows * columns, fill: Cell::new(Some(fill)), outcome: Cell::new(Ok(())) };
        self.values.inplace_op1(&filling).map_err(bug)?;
        filling.outcome.into_inner()?;
        let weights = self.values.narrow(0, 0, rows * columns).and_then(|w| w.reshape((rows, columns))).map_err(bug)?;
        with_values(&weights.matmul(&x.0).map_err(bug)?, |product| out.copy_from_slice(product))
    }
}

impl ScratchPool {
    /// Calls `work` with a scratch of at least `weights` weights.
    pub(super) fn with<T>(&self, weights: usize, work: impl FnOnce(&Scratch) -> Result<T>) -> Result<T> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let roomy = idle.filter(|scratch| scratch.weights >= weights);
        let scratch = roomy.map_or_else(|| Scratch::new(weights), Ok)?;
        let result = work(&scratch);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        result
    }
}

/// An in-place operation: the only way to write into a candle tensor's memory.
struct Fill<F> {
    weights: usize,
    fill: Cell<Option<F>>,
    outcome: Cell<Result<(), Error>>,
}

impl<F: FnOnce(&mut [f32]) -> Result<()>> InplaceOp1 for Fill<F> {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else { candle_core::bail!("a scratch is not f32") };
        let Some(part) = values.get_mut(..self.weights) else { candle_core::bail!("a scratch is too small") };
        if let Some(fill) = self.fill.take() {
            self.outcome.set(fill(part));
        }
        Ok(())
    }
}

/// Calls `read` with the values of a contiguous tensor that starts at offset 0 of its storage.
fn with_values<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, _) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok(read(values)),
        _ => Err(bug("a product is not f32 on the CPU")),
    }
}
