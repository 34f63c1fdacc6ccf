//! Scalar products of the inputs with each other, each tensor as one vector.
//!
//! Methods on the sphere only make sums of their inputs, with factors that depend on angles and norms. One pass gives
//! all scalar products, and whatever such a method does after it, iterations included, is arithmetic on a few numbers.

use crate::{
    error::Result,
    numeric::{simd::vectorised, sums::dot},
    ops::inputs::Inputs,
};

/// The scalar products of some vectors, or of sums of them.
#[derive(Debug, Clone)]
pub(super) struct Gram {
    count: usize,
    products: Vec<f64>,
}

impl Gram {
    /// Of the inputs or, with `base`, of the differences of the inputs after the first from the first.
    pub fn of(inputs: &Inputs<'_>, base: bool) -> Result<Self> {
        let count = inputs.count() - usize::from(base);
        inputs.fold(
            || Self { count, products: vec![0.0; count * count] },
            |gram, inputs, _| {
                if base {
                    differences(inputs);
                }
                let vectors = &inputs[usize::from(base)..];
                gram.add(|i, j| dot(&vectors[i], &vectors[j]));
            },
            |gram, other| gram.add(|i, j| other.get(i, j)),
        )
    }

    /// Of rows that are in memory.
    pub fn of_rows(rows: &[&[f32]]) -> Self {
        let mut gram = Self { count: rows.len(), products: vec![0.0; rows.len() * rows.len()] };
        gram.add(|i, j| dot(rows[i], rows[j]));
        gram
    }

    fn add(&mut self, product: impl Fn(usize, usize) -> f64) {
        for i in 0..self.count {
            for j in 0..=i {
                let product = product(i, j);
                self.products[i * self.count + j] += product;
                if i != j {
                    self.products[j * self.count + i] += product;
                }
            }
        }
    }

    /// How many vectors there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The product of vectors `i` and `j`.
    pub fn get(&self, i: usize, j: usize) -> f64 {
        self.products[i * self.count + j]
    }

    /// The length of vector `i`.
    pub fn norm(&self, i: usize) -> f64 {
        self.get(i, i).sqrt()
    }

    /// The product of the sums with factors `a` and `b` of all vectors.
    pub fn product(&self, a: &[f64], b: &[f64]) -> f64 {
        let row = |i: usize| (0..self.count).map(|j| b[j] * self.get(i, j)).sum::<f64>();
        (0..self.count).map(|i| a[i] * row(i)).sum()
    }

    /// The length of the sum with factors `a`. Rounding is of the order of 1e-8 of the vectors' lengths.
    pub fn length(&self, a: &[f64]) -> f64 {
        let square = self.product(a, a);
        // Rounding can make it negative; NaN stays NaN.
        if square < 0.0 { 0.0 } else { square.sqrt() }
    }
}

/// Turns the inputs after the first into their differences from the first.
pub(super) fn differences(inputs: &mut [Vec<f32>]) {
    let Some((base, others)) = inputs.split_first_mut() else { return };
    for other in others {
        vectorised(
            #[inline(always)]
            || other.iter_mut().zip(&*base).for_each(|(x, b)| *x -= b),
        );
    }
}
