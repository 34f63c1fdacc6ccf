//! `della` and `della_linear`: a random part of each difference, large elements more likely than small ones
//! (arXiv 2406.11617).
//!
//! Each element of a difference `d = x - b` is kept with probability `density - epsilon + 2 epsilon rank`, where `rank`
//! goes from 0 for the smallest magnitude of its row to 1 for the largest. A row is the last dimension. `della_linear`
//! adds up what is left as `task_arithmetic` does, `della` elects signs as `ties` does.

use super::{
    Kernel, MergeMethod, TaskArithmetic, check,
    spec::{Base, DENSITY, Domain, LAMBDA, MethodSpec, ParameterSpec, Values, WEIGHT, flag, of_model},
    task_vector::{Key, Ranked, TaskVectors, Thinning, kept_bytes, sorted_vectors},
};
use crate::{
    error::{Error, Result},
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `della` and `della_linear`. The first input is the base.
#[derive(Debug, Clone, PartialEq)]
pub struct Della {
    /// How the differences are added up. `normalize` is true by default for `della`, false for `della_linear`.
    pub sum: TaskArithmetic,
    /// Mean probability with which elements of each difference are kept. 1 keeps everything, 0 nothing. Default: 1.
    pub densities: Vec<f64>,
    /// How far the probability of the smallest and the largest element of a row is from the mean; `density - epsilon`
    /// and `density + epsilon` must lie between 0 and 1. Default: 0.15.
    pub epsilons: Vec<f64>,
    /// Whether what is kept of a difference is scaled to the L1 norm of all of it. Default: true.
    pub rescale: bool,
    /// Whether signs are elected as `ties` does.
    pub elect_signs: bool,
    /// The key of the random numbers, together with the seed, the number of the input and the element: the name of the
    /// tensor that is made.
    pub name: String,
}

const fn parameters(normalize: bool) -> [ParameterSpec; 6] {
    [
        WEIGHT,
        LAMBDA,
        flag("normalize", normalize),
        DENSITY,
        of_model("epsilon", Some(0.15)).within(Domain::Fraction),
        flag("rescale", true),
    ]
}

pub(super) const DELLA_LINEAR: MethodSpec = MethodSpec {
    name: "della_linear",
    title: "[DELLA](https://arxiv.org/abs/2406.11617) without sign election",
    base: Base::Required,
    parameters: &parameters(false),
    make: |v| Della::of(v, false).into(),
};

pub(super) const DELLA: MethodSpec = MethodSpec {
    name: "della",
    title: "[DELLA](https://arxiv.org/abs/2406.11617): random parts of the differences by magnitude, where signs agree",
    base: Base::Required,
    parameters: &parameters(true),
    make: |v| Della::of(v, true).into(),
};

impl Della {
    fn of(v: &Values, elect_signs: bool) -> Self {
        Self {
            sum: TaskArithmetic::of(v),
            densities: v.of_models(3),
            epsilons: v.of_models(4),
            rescale: v.flag(5),
            elect_signs,
            name: v.tensor.clone(),
        }
    }
}

impl MergeMethod for Della {
    fn name(&self) -> &'static str {
        if self.elect_signs { DELLA.name } else { DELLA_LINEAR.name }
    }

    fn check(&self, inputs: usize) -> Result<()> {
        let method = self.name();
        self.sum.check_sum(method, inputs)?;
        check::values(method, "density", &self.densities, inputs - 1)?;
        check::values(method, "epsilon", &self.epsilons, inputs - 1)?;
        for (density, epsilon) in self.densities.iter().zip(&self.epsilons) {
            check::fraction(method, "density", *density)?;
            if *epsilon < 0.0 {
                return Err(Error::input(format!("epsilon of {method} is {epsilon}, expected 0 or more")));
            }
            let between = |p: f64| 0.0 < p && p < 1.0;
            if between(*density) && !(between(density - epsilon) && between(density + epsilon)) {
                return Err(Error::input(format!(
                    "density - epsilon and density + epsilon of {method} must lie between 0 and 1"
                ))
                .fact("density", density.to_string())
                .fact("epsilon", epsilon.to_string())
                .hint(format!("with this density, epsilon must be less than {}", density.min(1.0 - density))));
            }
        }
        Ok(())
    }

    fn identify(&self, id: &mut Identity) {
        let Self { sum, densities, epsilons, rescale, elect_signs: _, name } = self;
        sum.identify(id);
        id.floats(densities).floats(epsilons).flag(*rescale).text(name);
    }

    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        let random = |density: &f64| *density > 0.0 && *density < 1.0;
        let sorts = inputs.is_vector() && self.densities.iter().any(random);
        let mut vectors = if sorts { sorted_vectors(inputs)?.into_iter().map(Some).collect() } else { Vec::new() };
        vectors.resize(self.densities.len(), None);
        let mut thinnings = Vec::with_capacity(self.densities.len());
        for (((density, epsilon), vector), input) in self.densities.iter().zip(&self.epsilons).zip(vectors).zip(0..) {
            thinnings.push(match *density {
                ..=0.0 => Thinning::Nothing,
                1.0.. => Thinning::Everything,
                density => {
                    let key = Key { seed: inputs.seed(), name: self.name.clone(), input };
                    match *epsilon {
                        0.0 => Thinning::Random(key, density),
                        epsilon => {
                            let (lowest, range) = (density - epsilon, 2.0 * epsilon);
                            Thinning::Ranked(key, Ranked { lowest, range, vector })
                        }
                    }
                }
            });
        }
        Ok(Box::new(TaskVectors::new(inputs, thinnings, self.rescale, &self.sum, self.elect_signs)?))
    }

    /// Bytes to remember which elements stay; twice that, since the space for it doubles as it grows.
    fn remembered_bytes(&self, elements: u64) -> u64 {
        if self.rescale { 2 * kept_bytes(elements, self.densities.len()) } else { 0 }
    }

    fn divided_by_sum(&self) -> Option<&[f64]> {
        self.sum.divided_by_sum()
    }
}
