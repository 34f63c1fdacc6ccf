//! `karcher`: the Riemannian mean of the tensors on the sphere, each tensor as one vector, times the mean of their norms
//! (arXiv 2603.04972).
//!
//! The mean is found by iteration: the inputs' unit vectors are mapped into the tangent space of the current mean, and
//! the mean moves along the mean tangent. Inputs of norm up to `tol` have no direction and are left out of the mean, but
//! not of the mean norm.

use super::check;
use crate::{error::Result, ops::Identity};

/// The parameters of `karcher`. All inputs count the same. One input stays as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Karcher {
    /// Most iterations. Default: 10.
    pub max_iter: u64,
    /// The tangent's length at which the mean is found. Default: 1e-5.
    pub tol: f64,
}

impl Karcher {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { max_iter, tol } = self;
        id.number(*max_iter).float(*tol);
    }

    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        check::inputs("karcher", check::Count::AtLeast(1), inputs)?;
        check::not_negative("karcher", "tol", self.tol)
    }
}
