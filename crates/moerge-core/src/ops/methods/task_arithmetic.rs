//! `task_arithmetic`: a base plus the weighted differences of the other models from it, `b + lambda sum w (x - b)`
//! (arXiv 2212.04089).

use super::{
    Kernel, MergeMethod, check,
    combination::Differences,
    spec::{Base, LAMBDA, MethodSpec, Values, WEIGHT, flag},
};
use crate::{
    error::Result,
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `task_arithmetic`, and how the methods that build on it add up the differences. The first input is
/// the base.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskArithmetic {
    /// Weight of the difference of each input after the base; no default. May be negative.
    pub weights: Vec<f64>,
    /// Factor of the sum. Default: 1.
    pub lambda: f64,
    /// Whether the sum is divided by the sum of the weights, unless that is 0. Default: false, but true for `ties` and
    /// `della`.
    pub normalize: bool,
}

/// A sum of weights below this does not divide, as in mergekit.
pub(super) const NO_WEIGHT: f64 = 1e-8;

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "task_arithmetic",
    title: "[task arithmetic](https://arxiv.org/abs/2212.04089): weighted differences from the base",
    base: Base::Required,
    parameters: &[WEIGHT, LAMBDA, flag("normalize", false)],
    make: |v| TaskArithmetic::of(v).into(),
};

impl TaskArithmetic {
    /// From the first three parameters, which must be `weight`, `lambda` and `normalize`.
    pub(super) fn of(v: &Values) -> Self {
        Self { weights: v.of_models(0), lambda: v.number(1), normalize: v.flag(2) }
    }

    /// `method` is the name of the method that adds up the differences in this way.
    pub(super) fn check_sum(&self, method: &str, inputs: usize) -> Result<()> {
        check::inputs(method, check::Count::AtLeast(1), inputs, true)?;
        check::values(method, "weight", &self.weights, inputs - 1)?;
        check::finite(method, "lambda", self.lambda)
    }
}

impl MergeMethod for TaskArithmetic {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        self.check_sum(SPEC.name, inputs)
    }

    fn identify(&self, id: &mut Identity) {
        let Self { weights, lambda, normalize } = self;
        id.floats(weights).float(*lambda).flag(*normalize);
    }

    fn kernel(&self, _: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        let total: f64 = self.weights.iter().sum();
        let divisor = if self.normalize && total.abs() >= NO_WEIGHT { total } else { 1.0 };
        Ok(Box::new(Differences(self.weights.iter().map(|w| self.lambda * w / divisor).collect())))
    }

    fn divided_by_sum(&self) -> Option<&[f64]> {
        self.normalize.then_some(&self.weights)
    }
}
