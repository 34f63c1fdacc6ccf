//! What each matrix of a model is multiplied with: the sum of squares of its inputs, column by column. The error of a
//! quantised weight counts as much as the inputs of its column are large; llama.cpp calls this an importance matrix.

use std::collections::HashMap;

use rayon::prelude::*;

use super::{activations::Activations, matrices::Matrices};
use moerge_core::{
    error::Result,
    model::families::{DecoderOptions, Role},
};

/// Sums over the inputs of every matrix. An expert's are over the tokens that were routed to it.
#[derive(Debug, Clone, Default)]
pub struct InputSquares {
    sums: HashMap<Role, Sums>,
}

/// Sums over the inputs of a matrix.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    /// The sum of squares, per column.
    pub squares: Vec<f64>,
    /// The number of tokens.
    pub tokens: u64,
}

impl InputSquares {
    /// The sums of a matrix; `None` if it was not used.
    pub fn get(&self, role: Role) -> Option<&Sums> {
        self.sums.get(&role)
    }

    fn add(&mut self, role: Role, squares: &[f64], tokens: usize) {
        let sums = self.sums.entry(role).or_default();
        sums.squares.resize(squares.len(), 0.0);
        sums.squares.iter_mut().zip(squares).for_each(|(sum, x)| *sum += x);
        sums.tokens += tokens as u64;
    }
}

/// Matrices that count their inputs.
pub(super) struct Counted<'a, M> {
    pub matrices: M,
    pub squares: &'a mut InputSquares,
}

impl<M: Matrices> Matrices for Counted<'_, M> {
    fn options(&self) -> &DecoderOptions {
        self.matrices.options()
    }

    fn times<const N: usize>(&mut self, roles: [Role; N], x: &Activations) -> Result<[Activations; N]> {
        let square = |index| x.feature(index).iter().map(|x| f64::from(*x).powi(2)).sum();
        let squares: Vec<f64> = (0..x.features()).into_par_iter().map(square).collect();
        roles.iter().for_each(|role| self.squares.add(*role, &squares, x.tokens()));
        self.matrices.times(roles, x)
    }

    fn parts(&mut self, role: Role, x: &Activations, each: &(dyn Fn(usize, &[f32]) + Sync)) -> Result<()> {
        self.matrices.parts(role, x, each)
    }

    fn vector(&mut self, role: Role) -> Result<Vec<f32>> {
        self.matrices.vector(role)
    }

    fn skip(&mut self, role: Role) -> Result<()> {
        self.matrices.skip(role)
    }

    fn embeddings(&mut self, ids: &[u32]) -> Result<Activations> {
        self.matrices.embeddings(ids)
    }
}
