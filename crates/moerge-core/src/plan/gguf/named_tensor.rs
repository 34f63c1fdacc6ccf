//! A tensor under its name in llama.cpp.

use crate::ops::Expr;

/// A tensor of the file, without its type.
#[derive(Debug)]
pub struct NamedTensor {
    /// Its name.
    pub name: String,
    /// Its shape, the slowest dimension first.
    pub shape: Vec<usize>,
    /// How its elements are made.
    pub expr: Expr,
}

impl NamedTensor {
    pub fn new(name: impl Into<String>, expr: Expr) -> Self {
        Self { name: name.into(), shape: expr.shape().to_vec(), expr }
    }
}
