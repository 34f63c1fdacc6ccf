//! `breadcrumbs` and `breadcrumbs_ties`: differences without their outliers and without their small elements
//! (arXiv 2312.06795).
//!
//! Of the `n` elements of a difference `d = x - b` the `gamma * n` largest in magnitude are dropped, then the smallest
//! until `density * n` are left; fewer outliers are dropped where that would leave too few. `breadcrumbs` adds up what
//! is left as `task_arithmetic` does, `breadcrumbs_ties` elects signs as `ties` does. A density of 1 keeps everything,
//! outliers included.

use std::ops::Range;

use super::{
    Kernel, MergeMethod, TaskArithmetic, check,
    spec::{Base, DENSITY, Domain, LAMBDA, MethodSpec, ParameterSpec, Values, WEIGHT, flag, of_model},
    task_vector::{TaskVectors, between_ranks},
};
use crate::{
    error::Result,
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `breadcrumbs` and `breadcrumbs_ties`. The first input is the base.
#[derive(Debug, Clone, PartialEq)]
pub struct Breadcrumbs {
    /// How the differences are added up.
    pub sum: TaskArithmetic,
    /// Fraction of each difference that is kept. Default: 1.
    pub densities: Vec<f64>,
    /// Fraction of each difference that is dropped as outliers. Default: 0.01.
    pub gammas: Vec<f64>,
    /// Whether what is kept of a difference is scaled to the L1 norm of all of it. Default: false.
    pub rescale: bool,
    /// Whether signs are elected as `ties` does.
    pub elect_signs: bool,
}

const PARAMETERS: &[ParameterSpec] = &[
    WEIGHT,
    LAMBDA,
    flag("normalize", false),
    DENSITY,
    of_model("gamma", Some(0.01)).within(Domain::Fraction),
    flag("rescale", false),
];

pub(super) const BREADCRUMBS: MethodSpec = MethodSpec {
    name: "breadcrumbs",
    title: "[model breadcrumbs](https://arxiv.org/abs/2312.06795): differences without outliers and small elements",
    base: Base::Required,
    parameters: PARAMETERS,
    make: |v| Breadcrumbs::of(v, false).into(),
};

pub(super) const BREADCRUMBS_TIES: MethodSpec = MethodSpec {
    name: "breadcrumbs_ties",
    title: "[model breadcrumbs](https://arxiv.org/abs/2312.06795) with the sign election of TIES",
    base: Base::Required,
    parameters: PARAMETERS,
    make: |v| Breadcrumbs::of(v, true).into(),
};

impl Breadcrumbs {
    fn of(v: &Values, elect_signs: bool) -> Self {
        Self {
            sum: TaskArithmetic::of(v),
            densities: v.of_models(3),
            gammas: v.of_models(4),
            rescale: v.flag(5),
            elect_signs,
        }
    }
}

impl MergeMethod for Breadcrumbs {
    fn name(&self) -> &'static str {
        if self.elect_signs { BREADCRUMBS_TIES.name } else { BREADCRUMBS.name }
    }

    fn check(&self, inputs: usize) -> Result<()> {
        let method = self.name();
        self.sum.check_sum(method, inputs)?;
        for (name, values) in [("density", &self.densities), ("gamma", &self.gammas)] {
            check::values(method, name, values, inputs - 1)?;
            values.iter().try_for_each(|value| check::fraction(method, name, *value))?;
        }
        Ok(())
    }

    fn identify(&self, id: &mut Identity) {
        let Self { sum, densities, gammas, rescale, elect_signs: _ } = self;
        sum.identify(id);
        id.floats(densities).floats(gammas).flag(*rescale);
    }

    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        let kept = |number: usize, elements| kept(self.densities[number], self.gammas[number], elements);
        Ok(Box::new(TaskVectors::new(inputs, between_ranks(inputs, kept)?, self.rescale, &self.sum, self.elect_signs)?))
    }

    fn divided_by_sum(&self) -> Option<&[f64]> {
        self.sum.divided_by_sum()
    }
}

/// The ranks that stay, from the largest magnitude; `None` for all.
fn kept(density: f64, gamma: f64, elements: u64) -> Option<Range<u64>> {
    if density >= 1.0 {
        return None;
    }
    let kept = (density * elements as f64) as u64;
    let outliers = ((gamma * elements as f64) as u64).min(elements - kept);
    Some(outliers..outliers + kept)
}
