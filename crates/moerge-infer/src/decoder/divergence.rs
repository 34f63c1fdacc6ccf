//! How far two models' predictions of the next token are apart.

use rayon::prelude::*;

use super::activations::Activations;

/// Tokens per task: their logits of one vocabulary entry are a few cache lines.
const TOGETHER: usize = 32;

/// Two predictions of one token.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Divergence {
    /// The Kullback-Leibler divergence of the second from the first, in nats: `sum p ln (p / q)`.
    pub kl: f64,
    /// Whether the most likely token is the same; of equal ones the first counts.
    pub same_top: bool,
}

/// For each column, how far `softmax(scores)` is from `softmax(reference)`, both `[vocabulary, tokens]`.
///
/// Sums run over the vocabulary in order, so they do not depend on the number of threads.
pub fn divergences(reference: &Activations, scores: &Activations) -> Vec<Divergence> {
    let mut found = vec![Divergence::default(); reference.tokens().min(scores.tokens())];
    found.par_chunks_mut(TOGETHER).enumerate().for_each(|(chunk, found)| {
        let first = chunk * TOGETHER;
        let columns = first..first + found.len();
        let one = Softmax::of(reference, columns.clone());
        let other = Softmax::of(scores, columns.clone());
        for entry in 0..reference.features() {
            let both = reference.feature(entry)[columns.clone()].iter().zip(&scores.feature(entry)[columns.clone()]);
            for (index, (p, q)) in both.enumerate() {
                let ln_p = f64::from(*p) - one.ln_sums[index];
                found[index].kl += ln_p.exp() * (ln_p - (f64::from(*q) - other.ln_sums[index]));
            }
        }
        for (index, found) in found.iter_mut().enumerate() {
            found.same_top = one.tops[index] == other.tops[index];
        }
    });
    found
}

/// Of some columns, the logarithm of the softmax's denominator and the largest entry.
struct Softmax {
    ln_sums: Vec<f64>,
    tops: Vec<usize>,
}

impl Softmax {
    fn of(scores: &Activations, columns: std::ops::Range<usize>) -> Self {
        let mut largest = vec![f32::NEG_INFINITY; columns.len()];
        let mut tops = vec![0; columns.len()];
        for entry in 0..scores.features() {
            for (index, score) in scores.feature(entry)[columns.clone()].iter().enumerate() {
                if *score > largest[index] {
                    (largest[index], tops[index]) = (*score, entry);
                }
            }
        }
        let mut sums = vec![0.0f64; columns.len()];
        for entry in 0..scores.features() {
            let row = scores.feature(entry)[columns.clone()].iter().zip(&largest);
            sums.iter_mut().zip(row).for_each(|(sum, (score, largest))| *sum += f64::from(*score - *largest).exp());
        }
        let ln_sums = sums.iter().zip(&largest).map(|(sum, largest)| f64::from(*largest) + sum.ln());
        Self { ln_sums: ln_sums.collect(), tops }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divergence_is_that_of_the_softmaxes() {
        let of = |probabilities: &[[f32; 2]]| {
            let logits: Vec<f32> = probabilities.iter().flatten().map(|p| p.ln() + 3.0).collect();
            Activations::from_tokens(&logits, 2)
        };
        let found = divergences(&of(&[[0.75, 0.25]; 40]), &of(&[[0.5, 0.5]; 40]));
        let expected = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        assert!(found.iter().all(|d| (d.kl - expected).abs() < 1e-6 && d.same_top), "{found:?}");
        let found = divergences(&of(&[[0.75, 0.25]]), &of(&[[0.25, 0.75]]));
        assert!((found[0].kl - 0.5 * 3f64.ln()).abs() < 1e-6 && !found[0].same_top);
        let same = of(&[[0.9, 0.1]]);
        assert_eq!(divergences(&same, &same), [Divergence { kl: 0.0, same_top: true }]);
    }
}
