//! `linear`: the weighted mean `sum w x / sum w`, or without `normalize` the sum `sum w x` ("model soups",
//! arXiv 2203.05482).

use super::{
    Kernel, MergeMethod, check,
    combination::WeightedSum,
    spec::{Base, MethodSpec, WEIGHT, flag},
};
use crate::{
    error::Result,
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `linear`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Weight of each input; no default.
    pub weights: Vec<f64>,
    /// Whether the sum is divided by the sum of the weights, which then must not be 0. Default: true.
    pub normalize: bool,
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "linear",
    title: "a weighted mean ([model soups](https://arxiv.org/abs/2203.05482))",
    base: Base::Unused,
    parameters: &[WEIGHT, flag("normalize", true)],
    make: |v| Linear { weights: v.of_models(0), normalize: v.flag(1) }.into(),
};

impl MergeMethod for Linear {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        check::inputs(SPEC.name, check::Count::AtLeast(1), inputs, false)?;
        check::values(SPEC.name, "weight", &self.weights, inputs)?;
        if self.normalize { check::sum_not_zero(SPEC.name, &self.weights, "normalize") } else { Ok(()) }
    }

    fn identify(&self, id: &mut Identity) {
        let Self { weights, normalize } = self;
        id.floats(weights).flag(*normalize);
    }

    fn kernel(&self, _: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        let divisor = if self.normalize { self.weights.iter().sum() } else { 1.0 };
        Ok(Box::new(WeightedSum(self.weights.iter().map(|w| w / divisor).collect())))
    }

    fn divided_by_sum(&self) -> Option<&[f64]> {
        self.normalize.then_some(&self.weights)
    }
}
