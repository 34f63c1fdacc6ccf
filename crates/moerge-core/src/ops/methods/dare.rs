//! `dare_linear` and `dare_ties`: a random part of each difference (arXiv 2311.03099).
//!
//! Each element of a difference `d = x - b` is kept with probability `density`, whatever it is. `dare_linear` adds up
//! what is left as `task_arithmetic` does, `dare_ties` elects signs as `ties` does. mergekit scales by the L1 norms
//! before and after, not by the paper's `1 / density`, and so do we.

use super::{
    Kernel, MergeMethod, TaskArithmetic, check,
    spec::{Base, DENSITY, LAMBDA, MethodSpec, ParameterSpec, Values, WEIGHT, flag},
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
    /// Whether signs are elected as `ties` does.
    pub elect_signs: bool,
    /// The key of the random numbers, together with the seed, the number of the input and the element: the name of the
    /// tensor that is made.
    pub name: String,
}

const PARAMETERS: &[ParameterSpec] = &[WEIGHT, LAMBDA, flag("normalize", false), DENSITY, flag("rescale", true)];

pub(super) const DARE_LINEAR: MethodSpec = MethodSpec {
    name: "dare_linear",
    title: "[DARE](https://arxiv.org/abs/2311.03099): random parts of the differences from the base",
    base: Base::Required,
    parameters: PARAMETERS,
    make: |v| Dare::of(v, false).into(),
};

pub(super) const DARE_TIES: MethodSpec = MethodSpec {
    name: "dare_ties",
    title: "[DARE](https://arxiv.org/abs/2311.03099) with the sign election of TIES",
    base: Base::Required,
    parameters: PARAMETERS,
    make: |v| Dare::of(v, true).into(),
};

impl Dare {
    fn of(v: &Values, elect_signs: bool) -> Self {
        Self {
            sum: TaskArithmetic::of(v),
            densities: v.of_models(3),
            rescale: v.flag(4),
            elect_signs,
            name: v.tensor.clone(),
        }
    }
}

impl MergeMethod for Dare {
    fn name(&self) -> &'static str {
        if self.elect_signs { DARE_TIES.name } else { DARE_LINEAR.name }
    }

    fn check(&self, inputs: usize) -> Result<()> {
        let method = self.name();
        self.sum.check_sum(method, inputs)?;
        check::values(method, "density", &self.densities, inputs - 1)?;
        self.densities.iter().try_for_each(|density| check::fraction(method, "density", *density))
    }

    fn identify(&self, id: &mut Identity) {
        let Self { sum, densities, rescale, elect_signs: _, name } = self;
        sum.identify(id);
        id.floats(densities).flag(*rescale).text(name);
    }

    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        let thinning = |(density, input): (&f64, u64)| match *density {
            1.0.. => Thinning::Everything,
            density => Thinning::Random(Key { seed: inputs.seed(), name: self.name.clone(), input }, density),
        };
        let thinnings = self.densities.iter().zip(0..).map(thinning).collect();
        Ok(Box::new(TaskVectors::new(inputs, thinnings, self.rescale, &self.sum, self.elect_signs)?))
    }

    fn divided_by_sum(&self) -> Option<&[f64]> {
        self.sum.divided_by_sum()
    }
}
