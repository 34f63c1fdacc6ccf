//! `ties`: the largest differences of each model, where their signs agree (arXiv 2306.01708).
//!
//! Of each difference `d = x - b` the `density * n` largest in magnitude are kept. At each element the sign of
//! `sum w d` is elected, 0 counting as positive; the differences `w d` of that sign are added up and, with `normalize`,
//! divided by the sum of their weights.

use std::ops::Range;

use super::{
    Kernel, MergeMethod, TaskArithmetic, check,
    spec::{Base, DENSITY, LAMBDA, MethodSpec, WEIGHT, flag},
    task_vector::{TaskVectors, between_ranks},
};
use crate::{
    error::Result,
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `ties`. The first input is the base.
#[derive(Debug, Clone, PartialEq)]
pub struct Ties {
    /// How the differences are added up. `normalize` is true by default.
    pub sum: TaskArithmetic,
    /// Fraction of each difference that is kept, at least one element unless it is 0. Default: 1.
    pub densities: Vec<f64>,
    /// Whether what is kept of a difference is scaled to the L1 norm of all of it. Default: false.
    pub rescale: bool,
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "ties",
    title: "[TIES](https://arxiv.org/abs/2306.01708): the largest differences from the base, where their signs agree",
    base: Base::Required,
    parameters: &[WEIGHT, LAMBDA, flag("normalize", true), DENSITY, flag("rescale", false)],
    make: |v| Ties { sum: TaskArithmetic::of(v), densities: v.of_models(3), rescale: v.flag(4) }.into(),
};

impl MergeMethod for Ties {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        self.sum.check_sum(SPEC.name, inputs)?;
        check::values(SPEC.name, "density", &self.densities, inputs - 1)?;
        self.densities.iter().try_for_each(|density| check::fraction(SPEC.name, "density", *density))
    }

    fn identify(&self, id: &mut Identity) {
        let Self { sum, densities, rescale } = self;
        sum.identify(id);
        id.floats(densities).flag(*rescale);
    }

    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        let thinnings = between_ranks(inputs, |number, elements| kept(self.densities[number], elements))?;
        Ok(Box::new(TaskVectors::new(inputs, thinnings, self.rescale, &self.sum, true)?))
    }

    fn divided_by_sum(&self) -> Option<&[f64]> {
        self.sum.divided_by_sum()
    }
}

/// The ranks that stay, from the largest magnitude; `None` for all.
fn kept(density: f64, elements: u64) -> Option<Range<u64>> {
    if density >= 1.0 {
        return None;
    }
    let at_least = if density > 0.0 { 1 } else { 0 };
    Some(0..((density * elements as f64) as u64).max(at_least))
}
