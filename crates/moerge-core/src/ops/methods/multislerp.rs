//! `multislerp`: the weighted mean of any number of tensors on the sphere, each tensor as one vector
//! (<https://goddard.blog/posts/multislerp-wow-what-a-cool-idea>).
//!
//! With the unit vectors `u = x / (|x| + eps)`: their weighted mean is scaled to length 1, the `u` are projected into
//! its tangent space, the weighted mean of the tangents goes back to the sphere by the exponential map, and the result
//! gets the weighted mean of the norms. With a base, all of that is done to differences from it.

use super::check;
use crate::{error::Result, ops::Identity};

/// The parameters of `multislerp`. The inputs are the base, if there is one, and the models. One model stays as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiSlerp {
    /// Weight of each model; no default.
    pub weights: Vec<f64>,
    /// Whether the weights are divided by their sum. Default: true.
    pub normalize_weights: bool,
    /// What keeps divisions by norms finite. Where the mean of the unit vectors is shorter, two models are interpolated
    /// linearly; more are an error. Default: 1e-8.
    pub eps: f64,
    /// Whether the first input is a base: then differences from it are merged, and it is added back.
    pub base: bool,
}

impl MultiSlerp {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { weights, normalize_weights, eps, base } = self;
        id.floats(weights).flag(*normalize_weights).float(*eps).flag(*base);
    }

    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        let base = usize::from(self.base);
        check::inputs("multislerp", check::Count::AtLeast(1 + base), inputs)?;
        check::values("multislerp", "weight", &self.weights, inputs - base)?;
        check::not_negative("multislerp", "eps", self.eps)?;
        if self.normalize_weights && self.weights.len() > 1 {
            check::sum_not_zero("multislerp", &self.weights, "normalize_weights")?;
        }
        Ok(())
    }
}
