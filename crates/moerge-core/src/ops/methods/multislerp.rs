//! `multislerp`: the weighted mean of any number of tensors on the sphere, each tensor as one vector
//! (<https://goddard.blog/posts/multislerp-wow-what-a-cool-idea>).
//!
//! With the unit vectors `u = x / (|x| + eps)`, their weighted mean is scaled to length 1 and then by the weighted mean of
//! the norms. With a base, that is done to differences from it.
//!
//! mergekit also projects the `u` into the tangent space of their mean and moves the mean along the weighted mean of these
//! tangents. That is 0: the tangents are `u - (u m) m`, and their weighted sum is the mean less its part along itself.

use super::{
    Kernel, MergeMethod, check,
    combination::{Differences, WeightedSum},
    gram::Gram,
    spec::{Base, Domain, MethodSpec, WEIGHT, flag, number},
};
use crate::{
    error::{Error, Result},
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `multislerp`. The inputs are the base, if there is one, and the models. One model stays as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiSlerp {
    /// Weight of each model; no default.
    pub weights: Vec<f64>,
    /// Whether the weights are divided by their sum. Default: true.
    pub normalize_weights: bool,
    /// What keeps divisions by norms finite. Where the mean of the unit vectors is shorter, two models are interpolated
    /// linearly; more are an error, unless all of them are 0. Default: 1e-8.
    pub eps: f64,
    /// Whether the first input is a base: then differences from it are merged, and it is added back.
    pub base: bool,
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "multislerp",
    title: "a weighted mean on the sphere (Multi-SLERP)",
    base: Base::Optional,
    parameters: &[WEIGHT, flag("normalize_weights", true), number("eps", Some(1e-8)).within(Domain::NotNegative)],
    make: |v| {
        MultiSlerp { weights: v.of_models(0), normalize_weights: v.flag(1), eps: v.number(2), base: v.base }.into()
    },
};

impl MultiSlerp {
    /// What each vector counts for in the result.
    fn factors(&self, gram: &Gram) -> Result<Vec<f64>> {
        let sum = if self.normalize_weights { self.weights.iter().sum() } else { 1.0 };
        let weights: Vec<f64> = self.weights.iter().map(|w| w / sum).collect();
        let of_units: Vec<f64> = weights.iter().enumerate().map(|(i, w)| w / (gram.norm(i) + self.eps)).collect();
        let length = gram.length(&of_units);
        // What is left after the vectors cancelled out to rounding has no direction either.
        let rounding = 1e-7 * weights.iter().map(|w| w.abs()).sum::<f64>();
        if length < self.eps.max(rounding) {
            let all_zero = (0..gram.count()).all(|i| gram.norm(i) == 0.0);
            if weights.len() == 2 || all_zero {
                return Ok(weights);
            }
            return Err(Error::input("multislerp: the weighted directions of the models cancel out")
                .fact("weights", format!("{:?}", self.weights))
                .hint("use other weights, or another method"));
        }
        let norm: f64 = weights.iter().enumerate().map(|(i, w)| w * gram.norm(i)).sum();
        Ok(of_units.iter().map(|f| f / length * norm).collect())
    }
}

impl MergeMethod for MultiSlerp {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        let base = usize::from(self.base);
        check::inputs(SPEC.name, check::Count::AtLeast(1 + base), inputs, self.base)?;
        check::values(SPEC.name, "weight", &self.weights, inputs - base)?;
        check::not_negative(SPEC.name, "eps", self.eps)?;
        if self.normalize_weights && self.weights.len() > 1 {
            check::sum_not_zero(SPEC.name, &self.weights, "normalize_weights")?;
        }
        Ok(())
    }

    fn identify(&self, id: &mut Identity) {
        let Self { weights, normalize_weights, eps, base } = self;
        id.floats(weights).flag(*normalize_weights).float(*eps).flag(*base);
    }

    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        let factors = if self.weights.len() == 1 { vec![1.0] } else { self.factors(&Gram::of(inputs, self.base)?)? };
        Ok(if self.base { Box::new(Differences(factors)) } else { Box::new(WeightedSum(factors)) })
    }

    fn divided_by_sum(&self) -> Option<&[f64]> {
        self.normalize_weights.then_some(&self.weights)
    }
}
