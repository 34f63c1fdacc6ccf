//! `nearswap`: the base, moved to another model where the two are near each other
//! (<https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001>).
//!
//! `w x + (1 - w) b` with `w = clip(t / max(|x - b|, 1e-6), 0, 1)`: elements that differ by less than `t` are the
//! model's.

use super::check;
use crate::{error::Result, ops::Identity};

/// The parameters of `nearswap`. The inputs are the base and one model.
#[derive(Debug, Clone, PartialEq)]
pub struct NearSwap {
    /// The difference up to which the model's element is taken; no default.
    pub t: f64,
}

impl NearSwap {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { t } = self;
        id.float(*t);
    }

    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        check::inputs("nearswap", check::Count::Exactly(2), inputs)?;
        check::finite("nearswap", "t", self.t)
    }
}
