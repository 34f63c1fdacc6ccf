//! Refines the rows by multinomial logistic regression, starting at those of the discriminant.
//!
//! The discriminant is optimal if router inputs are normal with the same covariance for every expert. They are not: most
//! of a class is far from every border, and near a border its shape differs. Regression depends on the borders only. Its
//! loss is
//!
//! ```text
//! mean over experts of the mean over their tokens of -ln softmax(W u)[own]  +  penalty / 2 sum_f (W - D)_f^2 mean(u_f^2)
//! ```
//!
//! where `D` are the discriminant's rows, so that regression changes only what the tokens near the borders call for.
//! Experts count equally, however much text each has. The penalty is scaled by each feature's mean square, because some
//! features of a model are hundreds of times larger than others.

use rayon::prelude::*;

use super::l_bfgs::{Slope, minimise};
use moerge_core::numeric::simd::vectorised;
use moerge_infer::decoder::Activations;

/// The penalty on the distance from the discriminant. From 0.02 to 0.1, the likelihood of held-out tokens hardly differs.
pub(super) const PENALTY: f64 = 0.05;

/// Number of steps. From the discriminant's rows, the likelihood of held-out tokens stops improving after about 8, in layers
/// of 576 features.
const STEPS: usize = 10;
/// Maximum number of values of router inputs, 256 MiB; of more, an evenly spaced subset of the tokens is used.
const MAX_VALUES: usize = 64 << 20;
/// Elements of a block of router inputs: it stays in a core's cache while it is used for the scores and the gradient.
const BLOCK: usize = 128 << 10;
/// Number of partial sums.
const PARTS: usize = 16;
/// Rows of scores, or features, that are computed together.
const TOGETHER: usize = 4;

/// Router inputs and their experts.
pub(super) struct Regression {
    experts: usize,
    /// Square roots of the features' mean squares.
    scales: Vec<f64>,
    /// Divided by `scales`; in blocks of tokens, each `[hidden, tokens]`.
    scaled: Vec<f32>,
    labels: Vec<usize>,
    /// The weight of a token of each expert; the weights of all tokens sum to 1.
    weights: Vec<f64>,
}

/// Bytes of memory for a regression over `tokens` vectors of width `hidden`.
pub fn bytes(hidden: usize, tokens: usize) -> u64 {
    ((hidden * tokens).min(MAX_VALUES) * size_of::<f32>()) as u64
}

impl Regression {
    /// A regression over some columns of `u`, each with its expert.
    pub fn new(u: &Activations, (columns, labels): &(Vec<usize>, Vec<usize>), experts: usize) -> Self {
        let every = (columns.len() * u.features()).div_ceil(MAX_VALUES).max(1);
        let columns: Vec<usize> = columns.iter().step_by(every).copied().collect();
        let labels: Vec<usize> = labels.iter().step_by(every).copied().collect();
        let tokens = columns.len().max(1);
        let scale = |f: usize| {
            let feature = u.feature(f);
            let square: f64 = columns.iter().map(|t| f64::from(feature[*t]).powi(2)).sum();
            (square / tokens as f64).sqrt().max(f64::from(f32::MIN_POSITIVE))
        };
        let hidden = u.features();
        let scales: Vec<f64> = (0..hidden).into_par_iter().map(scale).collect();
        let mut scaled = vec![0.0; hidden * columns.len()];
        let tokens = block_tokens(hidden);
        let blocks = scaled.par_chunks_mut((hidden * tokens).max(1)).zip(columns.par_chunks(tokens));
        blocks.for_each(|(block, columns)| {
            for (f, row) in block.chunks_exact_mut(columns.len()).enumerate() {
                let (feature, scale) = (u.feature(f), scales[f]);
                row.iter_mut().zip(columns).for_each(|(x, t)| *x = (f64::from(feature[*t]) / scale) as f32);
            }
        });
        let mut counts = vec![0usize; experts];
        labels.iter().for_each(|label| counts[*label] += 1);
        let seen = counts.iter().filter(|n| **n > 0).count();
        let weights = counts.into_iter().map(|n| 1.0 / (n.max(1) * seen.max(1)) as f64).collect();
        Self { experts, scales, scaled, labels, weights }
    }

    /// The best rows, found from `start`; `discriminant` are those of the discriminant.
    pub fn rows(&self, start: &[Vec<f64>], discriminant: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let scaled = |rows: &[Vec<f64>]| -> Vec<f64> {
            rows.iter().flat_map(|row| row.iter().zip(&self.scales).map(|(w, scale)| w * scale)).collect()
        };
        let discriminant = scaled(discriminant);
        let found = minimise(scaled(start), STEPS, |rows| self.slope(rows, &discriminant));
        let unscaled = |row: &[f64]| row.iter().zip(&self.scales).map(|(w, scale)| w / scale).collect();
        found.chunks(self.scales.len().max(1)).map(unscaled).collect()
    }

    /// The loss at `rows`, `[experts, hidden]` over scaled features like `discriminant`, and its gradient. Sums run in a
    /// fixed order, whatever the number of threads.
    fn slope(&self, rows: &[f64], discriminant: &[f64]) -> Slope {
        let hidden = self.scales.len();
        let narrow: Vec<f32> = rows.iter().map(|w| *w as f32).collect();
        let block = block_tokens(hidden);
        let part = self.labels.len().div_ceil(PARTS).next_multiple_of(block);
        let parts = self.labels.par_chunks(part).zip(self.scaled.par_chunks((part * hidden).max(1)));
        let sums: Vec<Slope> = parts
            .map(|(labels, scaled)| {
                let mut sum = Slope { value: 0.0, gradient: vec![0.0; rows.len()] };
                for (labels, scaled) in labels.chunks(block).zip(scaled.chunks(block * hidden)) {
                    vectorised(
                        #[inline(always)]
                        || self.add_block(&narrow, labels, scaled, &mut sum),
                    );
                }
                sum
            })
            .collect();
        let change: Vec<f64> = rows.iter().zip(discriminant).map(|(w, d)| w - d).collect();
        let length: f64 = change.iter().map(|w| w * w).sum();
        let mut slope = Slope { value: PENALTY / 2.0 * length, gradient: change.iter().map(|w| PENALTY * w).collect() };
        for sum in sums {
            slope.value += sum.value;
            slope.gradient.iter_mut().zip(sum.gradient).for_each(|(all, part)| *all += part);
        }
        slope
    }

    /// Adds the loss of some tokens, `[hidden, labels]`, and its gradient to `sum`.
    #[inline(always)]
    fn add_block(&self, rows: &[f32], labels: &[usize], scaled: &[f32], sum: &mut Slope) {
        let (hidden, count) = (self.scales.len(), labels.len());
        let mut scores = vec![0.0f32; self.experts * count];
        let features = |first: usize| scaled[first * count..].chunks_exact(count);
        for (row, scores) in rows.chunks_exact(hidden).zip(scores.chunks_exact_mut(count)) {
            let whole = hidden / TOGETHER * TOGETHER;
            for first in (0..whole).step_by(TOGETHER) {
                let [a, b, c, d] = std::array::from_fn(|i| &scaled[(first + i) * count..(first + i + 1) * count]);
                let w: [f32; TOGETHER] = std::array::from_fn(|i| row[first + i]);
                for t in 0..count {
                    scores[t] += (w[0] * a[t] + w[1] * b[t]) + (w[2] * c[t] + w[3] * d[t]);
                }
            }
            for (weight, feature) in row[whole..].iter().zip(features(whole)) {
                scores.iter_mut().zip(feature).for_each(|(sum, x)| *sum += weight * x);
            }
        }
        self.residuals(labels, &mut scores, &mut sum.value);
        for (f, feature) in features(0).enumerate() {
            for (group, residuals) in scores.chunks(TOGETHER * count).enumerate() {
                for (e, product) in products(feature, residuals).into_iter().enumerate().take(residuals.len() / count) {
                    sum.gradient[(group * TOGETHER + e) * hidden + f] += f64::from(product);
                }
            }
        }
    }

    /// Turns scores, `[experts, labels]`, into the derivatives of the loss, and adds the loss.
    #[inline(always)]
    fn residuals(&self, labels: &[usize], scores: &mut [f32], loss: &mut f64) {
        let count = labels.len();
        for (token, label) in labels.iter().enumerate() {
            let score = |expert: usize| f64::from(scores[expert * count + token]);
            let most = (0..self.experts).map(score).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..self.experts).map(|e| (score(e) - most).exp()).sum();
            let weight = self.weights[*label];
            *loss += weight * (sum.ln() + most - score(*label));
            for expert in 0..self.experts {
                let own = if expert == *label { 1.0 } else { 0.0 };
                let score = &mut scores[expert * count + token];
                *score = (weight * ((f64::from(*score) - most).exp() / sum - own)) as f32;
            }
        }
    }
}

/// Tokens per block of vectors of width `hidden`.
fn block_tokens(hidden: usize) -> usize {
    (BLOCK / hidden.max(1)).max(1).next_multiple_of(LANES)
}

/// Parallel sums of a product, which the compiler can vectorise.
const LANES: usize = 8;

/// `a . b` for each row `b` of `rows`, at most [`TOGETHER`].
#[inline(always)]
fn products(a: &[f32], rows: &[f32]) -> [f32; TOGETHER] {
    // Missing rows repeat the last.
    let last = (rows.len() / a.len().max(1)).saturating_sub(1);
    let rows: [&[f32]; TOGETHER] = std::array::from_fn(|e| &rows[e.min(last) * a.len()..(e.min(last) + 1) * a.len()]);
    let mut sums = [[0.0f32; LANES]; TOGETHER];
    let whole = a.len() / LANES * LANES;
    for t in (0..whole).step_by(LANES) {
        for (sums, row) in sums.iter_mut().zip(rows) {
            for i in 0..LANES {
                sums[i] += a[t + i] * row[t + i];
            }
        }
    }
    std::array::from_fn(|e| {
        let rest: f32 = (whole..a.len()).map(|t| a[t] * rows[e][t]).sum();
        sums[e].iter().sum::<f32>() + rest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three experts with 7, 2 and 1 parts of the tokens, over features of very different size.
    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let (hidden, tokens, experts) = (5, 700, 3);
        let mut u = Activations::zeros(hidden, tokens);
        for token in 0..tokens {
            let x: Vec<f32> =
                (0..hidden).map(|f| (((token * 31 + f * 17) % 23) as f32 - 9.0) * 10f32.powi(f as i32 - 2)).collect();
            u.set_token(token, &x);
        }
        let labels: Vec<usize> = (0..tokens).map(|t| [0, 0, 0, 0, 0, 0, 0, 1, 1, 2][t % 10]).collect();
        let regression = Regression::new(&u, &((0..tokens).collect(), labels), experts);
        let rows: Vec<f64> = (0..experts * hidden).map(|i| ((i * 7) % 5) as f64 / 5.0 - 0.4).collect();
        let discriminant: Vec<f64> = rows.iter().rev().copied().collect();
        let slope = regression.slope(&rows, &discriminant);
        for (i, gradient) in slope.gradient.iter().enumerate() {
            let value = |by: f64| {
                let mut rows = rows.clone();
                rows[i] += by;
                regression.slope(&rows, &discriminant).value
            };
            let measured = (value(1e-4) - value(-1e-4)) / 2e-4;
            assert!((measured - gradient).abs() < 1e-5, "{i}: {measured} {gradient}");
        }
    }
}
