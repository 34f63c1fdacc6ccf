//! `passthrough`: one model's tensor, times a factor. Used to stack layers of several models.

use super::{check, combination::WeightedSum};
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
        check::inputs("passthrough", check::Count::Exactly(1), inputs, false)
            .map_err(|error| error.hint("to stack layers of several models, write a slice for each of them"))?;
        check::finite("passthrough", "scale", self.scale)
    }

    pub(super) fn kernel(&self) -> WeightedSum {
        WeightedSum(vec![self.scale])
    }
}
