//! A tensor of a model that is known by its name only.

use moerge_checkpoint::Dtype;

use crate::ops::Expr;

/// How a tensor is made, adapter included.
#[derive(Debug, Clone)]
pub struct NamedTensor {
    /// Type of its elements, before anything is done with them.
    pub dtype: Dtype,
    /// How it is made.
    pub expr: Expr,
}

impl NamedTensor {
    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        self.expr.shape()
    }
}
