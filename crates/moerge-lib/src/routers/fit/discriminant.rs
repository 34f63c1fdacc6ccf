//! Computes the rows of a router from the class statistics: Fisher's linear discriminant.
//!
//! The discriminant of expert i is `w_i . (u - mu) - w_i . (mu_i - mu) / 2` with `w_i = S^-1 (mu_i - mu)`: the log
//! likelihood of `u` under its class if all classes are normal with covariance `S`. A router has no bias for the constant
//! part. But all router inputs share a large common part, their mean: along `a = S^-1 mu / (mu^T S^-1 mu)` that part is 1
//! with the least spread, so `c a . u` is nearly the constant `c` for every token, and `c a` can be added to the row.

use super::{
    Shape,
    conjugate_gradients::{dot, solve},
    statistics::Statistics,
};

/// The weight of a multiple of the identity in the covariance. A few hundred tokens are fewer than the width of a model;
/// without shrinkage, the directions of smallest variance would dominate.
const SHRINKAGE: f64 = 0.1;

/// Rows before the temperature is applied.
pub(super) struct Rows {
    /// `[expert][hidden]`.
    pub experts: Vec<Vec<f64>>,
    /// `[hidden]`, if there is a gated shared expert with text.
    pub shared: Option<Vec<f64>>,
}

/// The rows for `statistics`. Classes are numbered as in [`super::Class`].
pub(super) fn rows(statistics: &Statistics, shape: Shape) -> Rows {
    let experts = shape.experts;
    let means: Vec<Option<Vec<f64>>> = (0..experts).map(|e| statistics.mean(e)).collect();
    let mean = mean(means.iter().flatten());
    let hidden = mean.len();
    let difference = |own: &Option<Vec<f64>>| own.as_ref().map_or(vec![0.0; hidden], |own| minus(own, &mean));
    let mut differences: Vec<Vec<f64>> = means.iter().map(difference).collect();
    let shared = statistics.mean(experts).filter(|_| shape.shared).map(|own| minus(&own, &mean));
    let has_shared = shared.is_some();
    differences.extend(shared);
    differences.push(mean.clone());

    let mut solved = if shape.covariance() {
        solve(&shrunk(statistics.within(), hidden), &differences)
    } else {
        differences.clone()
    };
    // Without a covariance, all directions have the same variance.
    let along = solved.pop().unwrap_or_default();
    let length = dot(&along, &mean).max(f64::MIN_POSITIVE);
    for (row, difference) in solved.iter_mut().zip(&differences) {
        let constant = -dot(row, difference) / 2.0 - dot(row, &mean);
        row.iter_mut().zip(&along).for_each(|(w, a)| *w += constant / length * a);
    }
    let shared = if has_shared { solved.pop() } else { None };
    Rows { experts: solved, shared }
}

/// The direction `a` along which every router input is about 1.
pub(super) fn common(statistics: &Statistics, shape: Shape) -> Vec<f64> {
    let means: Vec<Vec<f64>> = (0..shape.experts).filter_map(|e| statistics.mean(e)).collect();
    let mean = mean(means.iter());
    let mut along = if shape.covariance() {
        solve(&shrunk(statistics.within(), mean.len()), std::slice::from_ref(&mean)).pop().unwrap_or_default()
    } else {
        mean.clone()
    };
    let length = dot(&along, &mean).max(f64::MIN_POSITIVE);
    along.iter_mut().for_each(|a| *a /= length);
    along
}

fn mean<'a>(vectors: impl Iterator<Item = &'a Vec<f64>>) -> Vec<f64> {
    let mut sum = Vec::new();
    let mut count = 0.0;
    for vector in vectors {
        sum.resize(vector.len(), 0.0);
        sum.iter_mut().zip(vector).for_each(|(s, x)| *s += x);
        count += 1.0;
    }
    sum.iter_mut().for_each(|s| *s /= count);
    sum
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// `(1 - SHRINKAGE) S + SHRINKAGE trace(S) / hidden I`.
fn shrunk(mut covariance: Vec<f64>, hidden: usize) -> Vec<f64> {
    let trace: f64 = (0..hidden).map(|i| covariance[i * hidden + i]).sum();
    covariance.iter_mut().for_each(|x| *x *= 1.0 - SHRINKAGE);
    let ridge = (SHRINKAGE * trace / hidden as f64).max(f64::MIN_POSITIVE);
    (0..hidden).for_each(|i| covariance[i * hidden + i] += ridge);
    covariance
}
