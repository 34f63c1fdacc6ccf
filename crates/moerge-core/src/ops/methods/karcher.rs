//! `karcher`: the Riemannian mean of the tensors on the sphere, each tensor as one vector, times the mean of their norms
//! (arXiv 2603.04972).
//!
//! The mean is found by iteration: the inputs' unit vectors are mapped into the tangent space of the current mean, and
//! the mean moves along the mean tangent. Inputs of norm up to `tol` have no direction and are left out of the mean, but
//! not of the mean norm.

use super::{
    Kernel, MergeMethod, check,
    combination::WeightedSum,
    gram::Gram,
    spec::{Base, Domain, MethodSpec, number},
};
use crate::{
    error::{Error, Result},
    ops::{Identity, inputs::Inputs},
};

/// The mean is found long before, or never.
const MAX_ITERATIONS: u64 = 10_000;

/// The parameters of `karcher`. All inputs count the same. One input stays as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Karcher {
    /// Maximum number of iterations, up to 10,000. Default: 10.
    pub max_iter: u64,
    /// The tangent's length at which the mean is found. Default: 1e-5.
    pub tol: f64,
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "karcher",
    title: "the [Karcher mean](https://arxiv.org/abs/2603.04972) on the sphere",
    base: Base::Unused,
    parameters: &[
        number("max_iter", Some(10.0)).within(Domain::NotNegative),
        number("tol", Some(1e-5)).within(Domain::NotNegative),
    ],
    make: |v| Karcher { max_iter: v.number(0).max(0.0) as u64, tol: v.number(1) }.into(),
};

impl Karcher {
    /// What each input counts for in the result. The mean is always a sum of the inputs, known by its factors.
    fn factors(&self, gram: &Gram) -> Vec<f64> {
        let norms: Vec<f64> = (0..gram.count()).map(|i| gram.norm(i)).collect();
        let valid: Vec<usize> = (0..gram.count()).filter(|i| norms[*i] > self.tol).collect();
        let Some(first) = valid.first() else { return vec![0.0; norms.len()] };
        let share = 1.0 / valid.len() as f64;
        let mut mean = vec![0.0; norms.len()];
        valid.iter().for_each(|i| mean[*i] = share / norms[*i]);
        let length = gram.length(&mean);
        if length < self.tol {
            mean.fill(0.0);
            mean[*first] = 1.0 / norms[*first];
        } else {
            scale(&mut mean, 1.0 / length);
        }
        for _ in 0..self.max_iter {
            let tangent = self.tangent(gram, &norms, &valid, &mean);
            let length = gram.length(&tangent);
            if length < self.tol {
                break;
            }
            let along = libm::sin(length) / length;
            mean.iter_mut().zip(&tangent).for_each(|(m, t)| *m = libm::cos(length) * *m + along * t);
            let length = gram.length(&mean);
            if length > self.tol {
                scale(&mut mean, 1.0 / length);
            }
        }
        scale(&mut mean, norms.iter().sum::<f64>() / norms.len() as f64);
        mean
    }

    /// The mean of the unit vectors, seen from `mean` along the sphere.
    fn tangent(&self, gram: &Gram, norms: &[f64], valid: &[usize], mean: &[f64]) -> Vec<f64> {
        let share = 1.0 / valid.len() as f64;
        let mut tangent = vec![0.0; norms.len()];
        for i in valid {
            let cosine = (0..norms.len()).map(|j| mean[j] * gram.get(*i, j)).sum::<f64>() / norms[*i];
            let cosine = cosine.clamp(-1.0, 1.0);
            let theta = libm::acos(cosine);
            let sin = libm::sin(theta);
            if theta < self.tol || sin == 0.0 {
                continue;
            }
            let part = share * theta / sin;
            tangent.iter_mut().zip(mean).for_each(|(t, m)| *t -= part * cosine * m);
            tangent[*i] += part / norms[*i];
        }
        tangent
    }
}

impl MergeMethod for Karcher {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        check::inputs(SPEC.name, check::Count::AtLeast(1), inputs, false)?;
        if self.max_iter > MAX_ITERATIONS {
            return Err(Error::input("max_iter of karcher is out of range")
                .fact("expected", format!("at most {MAX_ITERATIONS}"))
                .fact("found", self.max_iter.to_string()));
        }
        check::not_negative(SPEC.name, "tol", self.tol)
    }

    fn identify(&self, id: &mut Identity) {
        let Self { max_iter, tol } = self;
        id.number(*max_iter).float(*tol);
    }

    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(WeightedSum(if inputs.count() == 1 { vec![1.0] } else { self.factors(&Gram::of(inputs, false)?) })))
    }
}

fn scale(factors: &mut [f64], by: f64) {
    factors.iter_mut().for_each(|f| *f *= by);
}
