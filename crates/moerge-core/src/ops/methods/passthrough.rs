//! `passthrough`: one model's tensor, times a factor. Used to stack layers of several models.

use super::{Kernel, Place, check};
use crate::{error::Result, ops::Identity};

/// The parameters of `passthrough`. It takes one input.
///
/// A tensor that is not scaled should be its source itself, without a method around it, so that it is copied bit for
/// bit.
#[derive(Debug, Clone, PartialEq)]
pub struct Passthrough {
    /// The factor. Default: 1.
    pub scale: f64,
}

impl Passthrough {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { scale } = self;
        id.float(*scale);
    }

    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        check::inputs("passthrough", check::Count::Exactly(1), inputs)?;
        check::finite("passthrough", "scale", self.scale)
    }

    pub(super) fn kernel(&self) -> Scaled {
        Scaled(self.scale)
    }
}

/// The factor of the input.
pub(super) struct Scaled(f64);

impl Kernel for Scaled {
    fn merge(&self, inputs: &[Vec<f32>], _: Place, out: &mut [f32]) {
        let Some(input) = inputs.first() else { return };
        out.iter_mut().zip(input).for_each(|(out, x)| *out = (self.0 * f64::from(*x)) as f32);
    }
}
