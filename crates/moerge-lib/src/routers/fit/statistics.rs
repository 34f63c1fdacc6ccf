//! Accumulates the statistics of a layer's router inputs: count and mean of each class, and their covariance.
//!
//! All sums are f64. Their size depends on the model's width, not on the number of tokens.

use rayon::prelude::*;

use moerge_infer::decoder::{Activations, MATMUL_BYTES, Panels, matmul, transposed};

/// Tokens per block of a product.
const TOKENS: usize = 1024;
/// Features per block of a product.
const FEATURES: usize = 256;

/// Bytes of memory for the sums over vectors of this width and what is computed from them.
pub fn bytes(hidden: usize, threads: usize) -> u64 {
    let sums = 2 * hidden * hidden * size_of::<f64>();
    // The vectors, their transpose and its panels, and a block of the product.
    let shared = (3 * hidden * TOKENS + FEATURES * hidden) * size_of::<f32>();
    (sums + shared + threads * MATMUL_BYTES) as u64
}

/// Running sums of labelled vectors.
pub(super) struct Statistics {
    counts: Vec<usize>,
    /// Per class, the sum of `x - centre`.
    sums: Vec<Vec<f64>>,
    /// A point near the mean of all: sums of squares around it lose no precision.
    centre: Vec<f64>,
    /// Sum of `(x - centre)(x - centre)^T`, `[hidden, hidden]`; empty unless requested.
    moment: Vec<f64>,
}

impl Statistics {
    /// Empty sums, centred at the mean of `tokens` of `u`.
    pub fn new(classes: usize, u: &Activations, tokens: &[usize]) -> Self {
        let mean = |f: usize| {
            let feature = u.feature(f);
            let sum: f64 = tokens.iter().filter_map(|t| feature.get(*t)).map(|x| f64::from(*x)).sum();
            sum / tokens.len().max(1) as f64
        };
        let centre: Vec<f64> = (0..u.features()).map(mean).collect();
        Self { counts: vec![0; classes], sums: vec![vec![0.0; centre.len()]; classes], centre, moment: Vec::new() }
    }

    /// Adds `tokens` of `u` with their classes; `moment` includes their covariance.
    pub fn add(&mut self, u: &Activations, tokens: &[usize], classes: &[usize], moment: bool) {
        for class in classes {
            self.counts[*class] += 1;
        }
        for f in 0..self.centre.len() {
            let feature = u.feature(f);
            for (token, class) in tokens.iter().zip(classes) {
                self.sums[*class][f] += f64::from(feature[*token]) - self.centre[f];
            }
        }
        if moment {
            self.moment.resize(self.centre.len() * self.centre.len(), 0.0);
            tokens.chunks(TOKENS).for_each(|tokens| self.add_moment(u, tokens));
        }
    }

    fn add_moment(&mut self, u: &Activations, tokens: &[usize]) {
        let hidden = self.centre.len();
        let centred = |f: usize| {
            let (feature, centre) = (u.feature(f), self.centre[f]);
            tokens.iter().map(move |t| (f64::from(feature[*t]) - centre) as f32)
        };
        let rows: Vec<f32> = (0..hidden).flat_map(centred).collect();
        let columns = Panels::from_rows(&transposed(&rows, tokens.len()), hidden);
        let blocks = self.moment.chunks_mut(FEATURES * hidden).zip(rows.chunks(FEATURES * tokens.len().max(1)));
        for (moment, rows) in blocks {
            moment.iter_mut().zip(matmul(rows, &columns)).for_each(|(sum, x)| *sum += f64::from(x));
        }
    }

    /// Number of tokens of `class`.
    pub fn count(&self, class: usize) -> usize {
        self.counts.get(class).copied().unwrap_or_default()
    }

    /// The mean of `class`; `None` if it has no tokens.
    pub fn mean(&self, class: usize) -> Option<Vec<f64>> {
        let count = self.count(class);
        let mean = |(sum, centre): (&f64, &f64)| centre + sum / count as f64;
        (count > 0).then(|| self.sums[class].iter().zip(&self.centre).map(mean).collect())
    }

    /// The pooled covariance within the classes, `[hidden, hidden]`.
    pub fn within(&self) -> Vec<f64> {
        let hidden = self.centre.len();
        let seen = |class: &usize| self.counts[*class] > 0;
        let classes: Vec<usize> = (0..self.counts.len()).filter(seen).collect();
        let tokens: usize = self.counts.iter().sum();
        let freedom = tokens.saturating_sub(classes.len()).max(1) as f64;
        let mut within = self.moment.clone();
        within.par_chunks_mut(hidden.max(1)).enumerate().for_each(|(i, row)| {
            for class in &classes {
                let (sum, count) = (&self.sums[*class], self.counts[*class] as f64);
                row.iter_mut().zip(sum).for_each(|(x, s)| *x -= sum[i] * s / count);
            }
            row.iter_mut().for_each(|x| *x /= freedom);
        });
        within
    }
}
