//! `nearswap`: the base, moved to another model where the two are near each other
//! (<https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001>).
//!
//! `w x + (1 - w) b` with `w = clip(t / max(|x - b|, 1e-6), 0, 1)`: elements that differ by less than `t` are the
//! model's.

use super::{Kernel, Place, check};
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
        check::inputs("nearswap", check::Count::Exactly(2), inputs, true)?;
        check::finite("nearswap", "t", self.t)
    }

    pub(super) fn kernel(&self) -> Near {
        Near(self.t)
    }
}

/// The difference up to which the model's element is taken.
pub(super) struct Near(f64);

impl Kernel for Near {
    fn merge(&self, inputs: &mut [Vec<f32>], _: Place, out: &mut [f32]) {
        let [base, model] = inputs else { return };
        for ((out, b), x) in out.iter_mut().zip(&*base).zip(&*model) {
            let (b, x) = (f64::from(*b), f64::from(*x));
            let weight = (self.0 / (x - b).abs().max(1e-6)).clamp(0.0, 1.0);
            *out = (weight * x + (1.0 - weight) * b) as f32;
        }
    }
}
