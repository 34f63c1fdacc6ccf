//! From next-token logits to the log-probabilities of the actual tokens.

use rayon::prelude::*;

use super::{activations::Activations, lanes::vectorised, exp::exp};

/// Tokens per task: their logits of one vocabulary entry are a few cache lines.
const TOGETHER: usize = 32;

/// How probable a token is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// The natural logarithm of its probability.
    pub log_probability: f64,
    /// Whether no token is more probable.
    pub greedy: bool,
}

/// What turns the logits of a column into log-probabilities.
#[derive(Clone, Copy, Default)]
struct Normaliser {
    largest: f32,
    /// The logarithm of the sum of `exp(score - largest)`.
    log_sum: f64,
}

impl Normaliser {
    fn score(self, score: f32) -> TokenScore {
        let log_probability = f64::from(score) - f64::from(self.largest) - self.log_sum;
        TokenScore { log_probability, greedy: score >= self.largest }
    }
}

/// The natural logarithm of `softmax(scores)` at `targets[i]` in column `i` of `scores` `[vocabulary, tokens]`.
pub fn log_probabilities(scores: &Activations, targets: &[u32]) -> Vec<f64> {
    let wanted: Vec<(usize, u32)> = targets.iter().copied().enumerate().take(scores.tokens()).collect();
    token_scores(scores, &wanted).into_iter().map(|score| score.log_probability).collect()
}

/// The scores of tokens `.1` in columns `.0` of `scores` `[vocabulary, tokens]`.
pub fn token_scores(scores: &Activations, wanted: &[(usize, u32)]) -> Vec<TokenScore> {
    let normalisers = normalisers(scores);
    let score = |(column, token): &(usize, u32)| normalisers[*column].score(scores.feature(*token as usize)[*column]);
    wanted.iter().map(score).collect()
}

/// Sums run over the vocabulary in order, so they do not depend on the number of threads.
fn normalisers(scores: &Activations) -> Vec<Normaliser> {
    let mut found = vec![Normaliser::default(); scores.tokens()];
    found.par_chunks_mut(TOGETHER).enumerate().for_each(|(chunk, found)| {
        let first = chunk * TOGETHER;
        let columns = first..first + found.len();
        let mut largest = vec![f32::NEG_INFINITY; found.len()];
        let mut sums = vec![0.0f64; found.len()];
        vectorised(
            #[inline(always)]
            || {
                for entry in 0..scores.features() {
                    let row = &scores.feature(entry)[columns.clone()];
                    largest.iter_mut().zip(row).for_each(|(m, s)| *m = m.max(*s));
                }
                for entry in 0..scores.features() {
                    let row = &scores.feature(entry)[columns.clone()];
                    sums.iter_mut().zip(&largest).zip(row).for_each(|((sum, m), s)| *sum += f64::from(exp(s - m)));
                }
            },
        );
        for ((found, largest), sum) in found.iter_mut().zip(largest).zip(sums) {
            *found = Normaliser { largest, log_sum: sum.ln() };
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_the_softmax() {
        let tokens: Vec<f32> = (0..70).flat_map(|t| [t as f32, t as f32 + 2f32.ln(), t as f32 - 80.0]).collect();
        let scores = Activations::from_tokens(&tokens, 3);
        let targets: Vec<u32> = (0..70).map(|t| t % 2).collect();
        let found = log_probabilities(&scores, &targets);
        assert_eq!(found.len(), 70);
        for (target, found) in targets.iter().zip(found) {
            let expected = if *target == 1 { 2.0f64 / 3.0 } else { 1.0 / 3.0 };
            assert!((found - expected.ln()).abs() < 1e-5, "{found}");
        }
        let both = token_scores(&scores, &[(3, 0), (3, 1)]);
        assert_eq!([both[0].greedy, both[1].greedy], [false, true]);
        let unlikely = log_probabilities(&Activations::from_tokens(&[0.0, 200.0], 2), &[0]);
        assert!((unlikely[0] + 200.0).abs() < 1e-6, "no underflow: {unlikely:?}");
    }
}
