//! `nearswap`: the base, moved to another model where the two are near each other
//! (<https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001>).
//!
//! `w x + (1 - w) b` with `w = clip(t / max(|x - b|, 1e-6), 0, 1)`: elements that differ by less than `t` are the
//! model's.

use super::{
    Kernel, MergeMethod, Place, check,
    spec::{Base, MethodSpec, number},
};
use crate::{
    error::Result,
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `nearswap`. The inputs are the base and one model.
#[derive(Debug, Clone, PartialEq)]
pub struct NearSwap {
    /// The difference up to which the model's element is taken; no default.
    pub t: f64,
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "nearswap",
    title: "NearSwap: the base, moved to the model where they are near each other",
    base: Base::Required,
    parameters: &[number("t", None)],
    make: |v| NearSwap { t: v.number(0) }.into(),
};

impl MergeMethod for NearSwap {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        check::inputs(SPEC.name, check::Count::Exactly(2), inputs, true)?;
        check::finite(SPEC.name, "t", self.t)
    }

    fn identify(&self, id: &mut Identity) {
        let Self { t } = self;
        id.float(*t);
    }

    fn kernel(&self, _: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(Near(self.t)))
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
