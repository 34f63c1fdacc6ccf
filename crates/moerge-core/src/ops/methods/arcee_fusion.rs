//! `arcee_fusion`: the base, with a model's elements where its changes are outliers (<https://arcee.ai>).
//!
//! An element's importance is `|x - b|` times the Kullback-Leibler divergence of the softmax of its row of the model
//! from that of the base. The model's elements are taken where the importance is at least the median plus 1.5
//! interquartile ranges over the whole tensor. mergekit estimates the quartiles of large tensors from random elements;
//! ours are exact.

use super::{
    Kernel, MergeMethod, Place, check,
    select::{Upper, magnitudes},
    spec::{Base, MethodSpec},
};
use crate::{
    error::Result,
    numeric::{
        exp_log::{exp, ln},
        simd::vectorised,
        sums::{largest, sum_of},
    },
    ops::{Identity, inputs::Inputs},
};

/// `arcee_fusion` has no parameters. The inputs are the base and one model.
#[derive(Debug, Clone, PartialEq)]
pub struct ArceeFusion;

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "arcee_fusion",
    title: "Arcee Fusion: the base, with the model's elements where its changes are outliers",
    base: Base::Required,
    parameters: &[],
    make: |_| ArceeFusion.into(),
};

impl MergeMethod for ArceeFusion {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        check::inputs(SPEC.name, check::Count::Exactly(2), inputs, true)
    }

    fn identify(&self, _: &mut Identity) {
        let Self = self;
    }

    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        let rows = if inputs.is_vector() { of_vector(inputs)? } else { of_rows(inputs)? };
        let mut fusion = Fusion { divergences: rows.divergences, threshold: 0.0 };
        // The quartiles are those of a sorted list, rounded down to an element of it.
        let last = inputs.elements().saturating_sub(1);
        let after = |quarter: u64| inputs.elements() - (quarter * last) / 4;
        let ranks = [after(1), after(2), after(3)];
        let importances = |inputs: &mut [Vec<f32>], place: Place| {
            let [base, model] = inputs else { return };
            fusion.importances(base, model, place);
        };
        if let [first, median, third] = magnitudes(inputs, 1, &rows.upper, importances, &ranks)?[..] {
            fusion.threshold = median + 1.5 * (third - first);
        }
        Ok(Box::new(fusion))
    }
}

/// What tells important elements from the others.
pub(super) struct Fusion {
    /// The divergence of each row, or the one of a vector.
    divergences: Vec<f32>,
    threshold: f32,
}

impl Fusion {
    /// Turns `model` into the importance of its elements.
    fn importances(&self, base: &[f32], model: &mut [f32], place: Place) {
        let columns = if self.divergences.len() == 1 { model.len() } else { place.columns }.max(1);
        let first = if self.divergences.len() == 1 { 0 } else { place.first as usize / columns };
        let rows = model.chunks_mut(columns).zip(base.chunks(columns));
        for ((model, base), divergence) in rows.zip(&self.divergences[first..]) {
            importances(base, model, *divergence);
        }
    }
}

/// Turns `model`, of a row with this divergence, into the importance of its elements.
fn importances(base: &[f32], model: &mut [f32], divergence: f32) {
    vectorised(
        #[inline(always)]
        || model.iter_mut().zip(base).for_each(|(x, b)| *x = (*x - b).abs() * divergence),
    );
}

impl Kernel for Fusion {
    fn merge(&self, inputs: &mut [Vec<f32>], place: Place, out: &mut [f32]) {
        let [base, model] = inputs else { return };
        let mut importances = model.clone();
        self.importances(base, &mut importances, place);
        let elements = out.iter_mut().zip(&*base).zip(&*model).zip(&importances);
        vectorised(
            #[inline(always)]
            || {
                for (((out, b), x), importance) in elements {
                    let taken = if *importance >= self.threshold { 1.0 } else { 0.0 };
                    // A product rather than a branch: NaN stays NaN, so that it is noticed.
                    *out = (f64::from(*b) + (f64::from(*x) - f64::from(*b)) * taken) as f32;
                }
            },
        );
    }
}

/// Added to each probability, as in mergekit.
const SMALLEST: f64 = 1e-8;

/// The softmax of a vector that is read in pieces: the largest value, and the sum of the exponentials of the values less
/// it.
#[derive(Clone, Copy)]
struct Softmax {
    max: f64,
    sum: f64,
}

impl Softmax {
    const NOTHING: Self = Self { max: f64::NEG_INFINITY, sum: 0.0 };

    fn of(values: &[f32]) -> Self {
        let max = f64::from(largest(values));
        Self { max, sum: values.iter().map(|x| exp(f64::from(*x) - max)).sum() }
    }

    fn join(self, other: Self) -> Self {
        if other.sum == 0.0 {
            return self;
        }
        let max = self.max.max(other.max);
        let scaled = |own: Self| if own.sum == 0.0 { 0.0 } else { own.sum * exp(own.max - max) };
        Self { max, sum: scaled(self) + scaled(other) }
    }

    fn probability(self, x: f32) -> f64 {
        exp(f64::from(x) - self.max) / self.sum + SMALLEST
    }
}

/// The part of a divergence that comes from elements with these probabilities: the sum of `p ln(p / q)`.
fn divergence(of_model: &[f64], of_base: &[f64]) -> f64 {
    /// Elements that take the same path.
    const BLOCK: usize = 64;
    /// The largest magnitude of `z = (p - q) / (p + q)` for which the series has 15 digits.
    const NEAR: f64 = 1.0 / 16.0;
    vectorised(
        #[inline(always)]
        || {
            let mut z = [0.0; BLOCK];
            let mut sum = 0.0;
            for (p, q) in of_model.chunks(BLOCK).zip(of_base.chunks(BLOCK)) {
                let z = &mut z[..p.len()];
                z.iter_mut().zip(p).zip(q).for_each(|((z, p), q)| *z = (p - q) / (p + q));
                let far: u64 = z.iter().map(|z| u64::from(z.abs() > NEAR)).sum();
                // Models of one base are near each other, where ln(p / q) = 2 artanh(z) takes few terms.
                sum += if far == 0 { sum_of(p, z, near_divergence) } else { sum_of(p, q, far_divergence) };
            }
            sum
        },
    )
}

/// `2 p artanh(z)` for small `z`.
#[inline(always)]
fn near_divergence(p: f64, z: f64) -> f64 {
    let square = z * z;
    let series = (0..6).rev().fold(0.0, |sum, n| sum * square + 2.0 / f64::from(2 * n + 1));
    p * z * series
}

/// `p ln(p / q)`.
#[inline(always)]
fn far_divergence(p: f64, q: f64) -> f64 {
    p * ln(p / q)
}

/// What a pass finds of the rows.
struct Rows {
    /// Their divergences; at least 0, whatever is left of a sum that cancels out.
    divergences: Vec<f32>,
    /// The counts of their importances.
    upper: Upper,
}

fn of_rows(inputs: &Inputs<'_>) -> Result<Rows> {
    inputs.fold(
        || Rows { divergences: Vec::new(), upper: Upper::new() },
        |rows, inputs, place| {
            let [base, model] = inputs else { return };
            let columns = place.columns.max(1);
            let (mut p, mut q) = (vec![0.0; columns], vec![0.0; columns]);
            for (base, model) in base.chunks(columns).zip(model.chunks_mut(columns)) {
                softmax(model, &mut p);
                softmax(base, &mut q);
                let divergence = divergence(&p, &q).max(0.0) as f32;
                rows.divergences.push(divergence);
                importances(base, model, divergence);
            }
            rows.upper.count(model);
        },
        |all, own| {
            all.divergences.extend(own.divergences);
            all.upper.join(own.upper);
        },
    )
}

/// The probabilities of a row.
fn softmax(values: &[f32], probabilities: &mut [f64]) {
    vectorised(
        #[inline(always)]
        || {
            let max = f64::from(largest(values));
            probabilities.iter_mut().zip(values).for_each(|(p, x)| *p = exp(f64::from(*x) - max));
            let sum = sum_of(
                probabilities,
                probabilities,
                #[inline(always)]
                |p, _| p,
            );
            let scale = 1.0 / sum;
            probabilities.iter_mut().for_each(|p| *p = *p * scale + SMALLEST);
        },
    );
}

/// The divergence of a vector, which is one row.
fn of_vector(inputs: &Inputs<'_>) -> Result<Rows> {
    let softmax = inputs.fold(
        || [Softmax::NOTHING; 2],
        |all, inputs, _| {
            let [base, model] = inputs else { return };
            *all = [all[0].join(Softmax::of(base)), all[1].join(Softmax::of(model))];
        },
        |all, own| *all = [all[0].join(own[0]), all[1].join(own[1])],
    )?;
    let sum = inputs.fold(
        || 0.0,
        |sum, inputs, _| {
            let [base, model] = inputs else { return };
            let [of_base, of_model] = softmax;
            let p: Vec<f64> = model.iter().map(|x| of_model.probability(*x)).collect();
            let q: Vec<f64> = base.iter().map(|x| of_base.probability(*x)).collect();
            *sum += divergence(&p, &q);
        },
        |all, own| *all += own,
    )?;
    let divergence = sum.max(0.0) as f32;
    let upper = inputs.fold(
        Upper::new,
        |upper, inputs, _| {
            let [base, model] = inputs else { return };
            importances(base, model, divergence);
            upper.count(model);
        },
        Upper::join,
    )?;
    Ok(Rows { divergences: vec![divergence], upper })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::noise::uniform;

    #[test]
    fn divergences_are_those_of_the_formula_near_and_far() {
        for apart in [1e-6, 1e-3, 0.1, 3.0] {
            let q: Vec<f64> = uniform(1000, 1, "q").iter().map(|x| 1e-3 * (1.0 + f64::from(*x).abs())).collect();
            let p: Vec<f64> =
                q.iter().zip(uniform(1000, 2, "p")).map(|(q, x)| q * libm::exp(apart * f64::from(x))).collect();
            let expected: f64 = p.iter().zip(&q).map(|(p, q)| p * libm::log(p / q)).sum();
            let found = divergence(&p, &q);
            let most = 1e-14 * expected.abs().max(1.0);
            assert!((found - expected).abs() < most, "{apart}: {found}, expected {expected}");
        }
    }
}
