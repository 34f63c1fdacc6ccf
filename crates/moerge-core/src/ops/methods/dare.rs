//! `dare_linear` and `dare_ties`: a random part of each difference (arXiv 2311.03099).
//!
//! Each element of a difference `d = x - b` is kept with probability `density`, whatever it is. `dare_linear` adds up
//! what is left as `task_arithmetic` does, `dare_ties` elects signs as `ties` does. mergekit scales by the L1 norms
//! before and after, not by the paper's `1 / density`, and so do we.

use super::{
    TaskArithmetic, check,
    task_vector::{Key, TaskVectors, Thinning},
};
use crate::{
    error::Result,
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `dare_linear` and `dare_ties`. The first input is the base.
#[derive(Debug, Clone, PartialEq)]
pub struct Dare {
    /// How the differences are added up.
    pub sum: TaskArithmetic,
    /// Probability with which an element of each difference is kept. Default: 1.
    pub densities: Vec<f64>,
    /// Whether what is kept of a difference is scaled to the L1 norm of all of it. Default: true.
    pub rescale: bool,
    /// The key of the random numbers, together with the seed, the number of the input and the element: the name of the
    /// tensor that is made.
    pub name: String,
}

impl Dare {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { sum, densities, rescale, name } = self;
        sum.identify(id);
        id.floats(densities).flag(*rescale).text(name);
    }

    pub(super) fn check(&self, method: &str, inputs: usize) -> Result<()> {
        self.sum.check(method, inputs)?;
        check::values(method, "density", &self.densities, inputs - 1)?;
        self.densities.iter().try_for_each(|density| check::fraction(method, "density", *density))
    }

    pub(super) fn kernel(&self, inputs: &Inputs<'_>, elect_signs: bool) -> Result<TaskVectors> {
        let thinning = |(density, input): (&f64, u64)| match *density {
            1.0.. => Thinning::Everything,
            density => Thinning::Random(Key { seed: inputs.seed(), name: self.name.clone(), input }, density),
        };
        let thinnings = self.densities.iter().zip(0..).map(thinning).collect();
        TaskVectors::new(inputs, thinnings, self.rescale, &self.sum, elect_signs)
    }
}
