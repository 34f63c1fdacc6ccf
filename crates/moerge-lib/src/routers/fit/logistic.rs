//! Refines the rows by multinomial logistic regression, starting at those of the discriminant.
//!
//! The discriminant is optimal if router inputs are normal with the same covariance for every expert. They are not: most
//! of a class is far from every border, and near a border its shape differs. Regression depends on the borders only. Its
//! loss is
//!
//! ```text
//! mean over experts of the mean over their tokens of -ln softmax(W u)[own]  +  penalty / 2 sum_f W_f^2 mean(u_f^2)
//! ```
//!
//! Experts count equally, however much text each has. The penalty is scaled by each feature's mean square, because some
//! features of a model are hundreds of times larger than others.

use rayon::prelude::*;

use super::l_bfgs::{Slope, minimise};
use moerge_infer::decoder::Activations;

/// Candidate penalties. The smaller suits much text, the larger little; the held-out tokens decide.
pub(super) const PENALTIES: [f64; 2] = [1e-2, 1e-3];

/// Number of steps. The likelihood of held-out tokens stops improving after about 20 steps from the discriminant's rows,
/// in layers of 128 and of 576 features.
const STEPS: usize = 20;
/// Maximum number of tokens; of more, an evenly spaced subset is used.
const MAX_TOKENS: usize = 16 << 10;
/// Tokens per block of scores.
const BLOCK: usize = 256;

/// Router inputs and their experts.
pub(super) struct Regression {
    experts: usize,
    /// Square roots of the features' mean squares.
    scales: Vec<f64>,
    /// `[hidden, tokens]`, divided by `scales`.
    scaled: Vec<f32>,
    labels: Vec<usize>,
    /// The weight of a token of each expert; the weights of all tokens sum to 1.
    weights: Vec<f64>,
}

/// Bytes of memory for a regression over `tokens` vectors of width `hidden`.
pub fn bytes(hidden: usize, tokens: usize) -> u64 {
    (hidden * tokens.min(MAX_TOKENS) * size_of::<f32>()) as u64
}

impl Regression {
    /// A regression over some columns of `u`, each with its expert.
    pub fn new(u: &Activations, (columns, labels): &(Vec<usize>, Vec<usize>), experts: usize) -> Self {
        let every = columns.len().div_ceil(MAX_TOKENS).max(1);
        let columns: Vec<usize> = columns.iter().step_by(every).copied().collect();
        let labels: Vec<usize> = labels.iter().step_by(every).copied().collect();
        let tokens = columns.len().max(1);
        let mut scaled = vec![0.0; u.features() * columns.len()];
        let fill = |(f, row): (usize, &mut [f32])| {
            let feature = u.feature(f);
            let square: f64 = columns.iter().map(|t| f64::from(feature[*t]).powi(2)).sum();
            let scale = (square / tokens as f64).sqrt().max(f64::from(f32::MIN_POSITIVE));
            row.iter_mut().zip(&columns).for_each(|(x, t)| *x = (f64::from(feature[*t]) / scale) as f32);
            scale
        };
        let scales = scaled.par_chunks_mut(tokens).enumerate().map(fill).collect();
        let mut counts = vec![0usize; experts];
        labels.iter().for_each(|label| counts[*label] += 1);
        let seen = counts.iter().filter(|n| **n > 0).count();
        let weights = counts.into_iter().map(|n| 1.0 / (n.max(1) * seen.max(1)) as f64).collect();
        Self { experts, scales, scaled, labels, weights }
    }

    /// The best rows for `penalty`, found from `start`.
    pub fn rows(&self, start: &[Vec<f64>], penalty: f64) -> Vec<Vec<f64>> {
        let start = start.iter().flat_map(|row| row.iter().zip(&self.scales).map(|(w, scale)| w * scale)).collect();
        let found = minimise(start, STEPS, |rows| self.slope(rows, penalty));
        let unscaled = |row: &[f64]| row.iter().zip(&self.scales).map(|(w, scale)| w / scale).collect();
        found.chunks(self.scales.len().max(1)).map(unscaled).collect()
    }

    /// The loss at `rows`, `[experts, hidden]` over scaled features, and its gradient. Sums run in a fixed order,
    /// whatever the number of threads.
    fn slope(&self, rows: &[f64], penalty: f64) -> Slope {
        let (hidden, tokens) = (self.scales.len(), self.labels.len());
        let blocks: Vec<(f64, Vec<f32>)> = self
            .labels
            .par_chunks(BLOCK)
            .enumerate()
            .map(|(i, labels)| self.residuals(rows, i * BLOCK, labels))
            .collect();
        let loss: f64 = blocks.iter().map(|(loss, _)| loss).sum();
        let mut gradient: Vec<f64> = rows.iter().map(|w| penalty * w).collect();
        let by_feature = |f: usize| -> Vec<f64> {
            let feature = self.scaled[f * tokens..(f + 1) * tokens].chunks(BLOCK);
            let mut sums = vec![0.0; self.experts];
            for (feature, (_, residuals)) in feature.zip(&blocks) {
                for (sum, residuals) in sums.iter_mut().zip(residuals.chunks(feature.len())) {
                    *sum += product(feature, residuals);
                }
            }
            sums
        };
        let sums: Vec<Vec<f64>> = (0..hidden).into_par_iter().map(by_feature).collect();
        for (f, sums) in sums.into_iter().enumerate() {
            sums.into_iter().enumerate().for_each(|(expert, sum)| gradient[expert * hidden + f] += sum);
        }
        let length: f64 = rows.iter().map(|w| w * w).sum();
        Slope { value: loss + penalty / 2.0 * length, gradient }
    }

    /// The loss of the tokens from `first` on, with experts `labels`, and its derivative by their scores,
    /// `[experts, labels]`.
    fn residuals(&self, rows: &[f64], first: usize, labels: &[usize]) -> (f64, Vec<f32>) {
        let (hidden, tokens, count) = (self.scales.len(), self.labels.len(), labels.len());
        let mut scores = vec![0.0f64; self.experts * count];
        for f in 0..hidden {
            let feature = &self.scaled[f * tokens + first..][..count];
            for (expert, scores) in scores.chunks_exact_mut(count).enumerate() {
                let weight = rows[expert * hidden + f];
                scores.iter_mut().zip(feature).for_each(|(sum, x)| *sum += weight * f64::from(*x));
            }
        }
        let mut loss = 0.0;
        let mut residuals = vec![0.0; scores.len()];
        for (token, label) in labels.iter().enumerate() {
            let score = |expert: usize| scores[expert * count + token];
            let most = (0..self.experts).map(score).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..self.experts).map(|e| (score(e) - most).exp()).sum();
            let weight = self.weights[*label];
            loss += weight * (sum.ln() + most - score(*label));
            for expert in 0..self.experts {
                let own = if expert == *label { 1.0 } else { 0.0 };
                residuals[expert * count + token] = (weight * ((score(expert) - most).exp() / sum - own)) as f32;
            }
        }
        (loss, residuals)
    }
}

/// `a . b` as several parallel sums, which the compiler can vectorise.
fn product(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f32; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    f64::from(sums.iter().sum::<f32>() + rest)
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
        let slope = regression.slope(&rows, 0.1);
        for (i, gradient) in slope.gradient.iter().enumerate() {
            let value = |by: f64| {
                let mut rows = rows.clone();
                rows[i] += by;
                regression.slope(&rows, 0.1).value
            };
            let measured = (value(1e-4) - value(-1e-4)) / 2e-4;
            assert!((measured - gradient).abs() < 1e-5, "{i}: {measured} {gradient}");
        }
    }
}
