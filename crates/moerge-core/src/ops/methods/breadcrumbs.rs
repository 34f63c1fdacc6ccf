//! `breadcrumbs` and `breadcrumbs_ties`: differences without their outliers and without their small elements
//! (arXiv 2312.06795).
//!
//! Of the `n` elements of a difference `d = x - b` the `gamma * n` largest in magnitude are dropped, then the smallest
//! until `density * n` are left; fewer outliers are dropped where that would leave too few. `breadcrumbs` adds up what
//! is left as `task_arithmetic` does, `breadcrumbs_ties` elects signs as `ties` does. A density of 1 keeps everything,
//! outliers included.

use std::ops::Range;

use super::{
    TaskArithmetic, check,
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
}

impl Breadcrumbs {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { sum, densities, gammas, rescale } = self;
        sum.identify(id);
        id.floats(densities).floats(gammas).flag(*rescale);
    }

    pub(super) fn check(&self, method: &str, inputs: usize) -> Result<()> {
        self.sum.check(method, inputs)?;
        for (name, values) in [("density", &self.densities), ("gamma", &self.gammas)] {
            check::values(method, name, values, inputs - 1)?;
            values.iter().try_for_each(|value| check::fraction(method, name, *value))?;
        }
        Ok(())
    }

    pub(super) fn kernel(&self, inputs: &Inputs<'_>, elect_signs: bool) -> Result<TaskVectors> {
        let kept = |number: usize, elements| kept(self.densities[number], self.gammas[number], elements);
        TaskVectors::new(inputs, between_ranks(inputs, kept)?, self.rescale, &self.sum, elect_signs)
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
