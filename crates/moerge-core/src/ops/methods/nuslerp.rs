//! `nuslerp`: spherical interpolation of two tensors by weights, of whole tensors or of rows, or of their differences
//! from a base.
//!
//! `t = w2 / (w1 + w2)`, or 0.5 where the sum is nearly 0. The formula is that of `slerp`, but only vectors that are
//! parallel up to rounding (`1 - cos^2 <= 1e-16`) are interpolated linearly.

use super::check;
use crate::{error::Result, ops::Identity};

/// The parameters of `nuslerp`. The inputs are the base, if there is one, and two models.
#[derive(Debug, Clone, PartialEq)]
pub struct NuSlerp {
    /// Weights of the two models; no default.
    pub weights: [f64; 2],
    /// Whether each tensor is one vector. Otherwise each of its rows (the last dimension) is one. Default: true.
    pub flatten: bool,
    /// Whether the vectors lie along the first dimension instead of the last; without effect if `flatten` is set.
    /// Default: false. mergekit calls it `nuslerp_row_wise`.
    pub row_wise: bool,
    /// Whether the first input is a base: then differences from it are interpolated, and it is added back.
    pub base: bool,
}

impl NuSlerp {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { weights, flatten, row_wise, base } = self;
        id.floats(weights).flag(*flatten).flag(*row_wise).flag(*base);
    }

    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        check::inputs("nuslerp", check::Count::Exactly(2 + usize::from(self.base)), inputs)?;
        self.weights.iter().try_for_each(|weight| check::finite("nuslerp", "weight", *weight))
    }
}
