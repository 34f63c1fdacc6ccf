//! A tensor that is known only by name.

use moerge_checkpoint::Dtype;

use crate::ops::Expr;

/// The expression of a tensor, including its adapter.
#[derive(Debug, Clone)]
pub struct NamedTensor {
    /// The stored dtype.
    pub dtype: Dtype,
    /// The expression.
    pub expr: Expr,
}

impl NamedTensor {
    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        self.expr.shape()
    }
}
