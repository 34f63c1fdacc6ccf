//! Matrices with one row per token, and their products with weights and with each other.

use std::ops::Range;

use rayon::prelude::*;

use crate::decoder::{
    WeightRounding, Weights,
    linear::CHUNK_WEIGHTS,
    matmul::{Panels, matmul},
    transpose::transposed,
    weights::{matrix_shape, tensor_of},
};
use moerge_core::{error::Result, model::families::Role};

/// Rows of weights that a product with their transpose copies at once.
pub(super) const SLAB: usize = 256;

/// `[rows, columns]` in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rows {
    pub columns: usize,
    pub values: Vec<f32>,
}

impl Rows {
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { columns, values: vec![0.0; rows * columns] }
    }

    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.columns.max(1))
    }

    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.values.chunks_exact_mut(self.columns.max(1))
    }

    pub fn add(&mut self, other: &Self) {
        self.values.iter_mut().zip(&other.values).for_each(|(x, y)| *x += y);
    }

    /// A copy of the rows `range` of the columns of head `head`, which are `width` wide.
    pub fn block(&self, range: &Range<usize>, head: usize, width: usize) -> Self {
        let rows = self.values[range.start * self.columns..range.end * self.columns].chunks_exact(self.columns);
        let values = rows.flat_map(|row| &row[head * width..(head + 1) * width]).copied().collect();
        Self { columns: width, values }
    }

    /// Adds `block` to the rows `range` of the columns of head `head`.
    pub fn add_block(&mut self, range: &Range<usize>, head: usize, block: &Self) {
        let (columns, width) = (self.columns, block.columns);
        let rows = self.values[range.start * columns..range.end * columns].chunks_exact_mut(columns);
        for (row, block) in rows.zip(block.rows()) {
            row[head * width..(head + 1) * width].iter_mut().zip(block).for_each(|(x, y)| *x += y);
        }
    }

    fn panels(&self) -> Panels {
        Panels::from_rows(&self.values, self.columns)
    }

    fn transposed(&self) -> Self {
        let columns = self.values.len() / self.columns.max(1);
        Self { columns, values: transposed(&self.values, self.columns) }
    }

    /// `self right`.
    pub fn product(&self, right: &Self) -> Self {
        Self { columns: right.columns, values: matmul(&self.values, &right.panels()) }
    }

    /// `self right^T`.
    pub fn product_transposed(&self, right: &Self) -> Self {
        self.product(&right.transposed())
    }

    /// `self^T right`.
    pub fn transposed_product(&self, right: &Self) -> Self {
        self.transposed().product(right)
    }
}

/// A weight matrix in f32 with its bias.
pub(super) struct Matrix {
    /// One row per output.
    weight: Rows,
    bias: Option<Vec<f32>>,
    outputs: usize,
}

impl Matrix {
    /// Reads some rows of `role`.
    pub fn rows_of(
        weights: &dyn Weights,
        role: Role,
        rows: Range<usize>,
        rounding: Option<WeightRounding>,
    ) -> Result<Self> {
        let (_, inputs) = matrix_shape(tensor_of(weights.description(), role)?);
        let outputs = rows.len();
        let weight = Rows { columns: inputs, values: values(weights, role, rows, rounding)? };
        Ok(Self { weight, bias: None, outputs })
    }

    /// Reads all of `role`, and its `bias`.
    pub fn read(
        weights: &dyn Weights,
        role: Role,
        bias: Option<Role>,
        rounding: Option<WeightRounding>,
    ) -> Result<Self> {
        let (rows, _) = matrix_shape(tensor_of(weights.description(), role)?);
        let bias = bias.map(|bias| vector(weights, bias)).transpose()?;
        Ok(Self { bias, ..Self::rows_of(weights, role, 0..rows, rounding)? })
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `W x + b` of every row `x`.
    pub fn times(&self, x: &Rows) -> Rows {
        // (W x^T)^T: `x` is smaller than the weights, which are not copied.
        let mut y = self.weight.product(&x.transposed()).transposed();
        if let Some(bias) = &self.bias {
            y.rows_mut().for_each(|row| row.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
        }
        y
    }

    /// `W^T x` of every row `x`: the gradient with respect to the input.
    pub fn times_transposed(&self, x: &Rows) -> Rows {
        // Some of the weights at a time, since a product copies its right operand.
        let inputs = self.weight.columns;
        let tokens = x.values.len() / x.columns.max(1);
        let mut sum = Rows::zeros(tokens, inputs);
        for (first, weights) in (0..).step_by(SLAB).zip(self.weight.values.chunks((SLAB * inputs).max(1))) {
            let part = x.values.chunks_exact(x.columns).flat_map(|row| &row[first..first + weights.len() / inputs]);
            let part: Vec<f32> = part.copied().collect();
            let product = matmul(&part, &Panels::from_rows(weights, inputs));
            sum.values.iter_mut().zip(product).for_each(|(sum, x)| *sum += x);
        }
        sum
    }

    /// Row `index` of `W`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.weight.values[index * self.weight.columns..][..self.weight.columns]
    }
}

/// Reads a vector.
pub(super) fn vector(weights: &dyn Weights, role: Role) -> Result<Vec<f32>> {
    let (rows, _) = matrix_shape(tensor_of(weights.description(), role)?);
    values(weights, role, 0..rows, None)
}

/// Reads `rows` of `role` as f32 and applies `rounding`.
fn values(weights: &dyn Weights, role: Role, rows: Range<usize>, rounding: Option<WeightRounding>) -> Result<Vec<f32>> {
    let (_, columns) = matrix_shape(tensor_of(weights.description(), role)?);
    let rounding = rounding.filter(|_| WeightRounding::applies_to(role));
    let mut values = vec![0.0; rows.len() * columns];
    let step = (CHUNK_WEIGHTS / columns.max(1)).max(1);
    values.par_chunks_mut((step * columns).max(1)).enumerate().try_for_each(|(chunk, out)| -> Result<()> {
        let first = rows.start + chunk * step;
        weights.read_rows(role, first..(first + step).min(rows.end), out)?;
        if let Some(rounding) = rounding {
            rounding.apply(out, columns);
        }
        Ok(())
    })?;
    Ok(values)
}
