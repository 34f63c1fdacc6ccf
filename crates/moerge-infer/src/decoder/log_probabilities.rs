//! From next-token logits to the log-probabilities of the actual tokens.

use rayon::prelude::*;

use super::activations::Activations;

/// Tokens per task: their logits of one vocabulary entry are a few cache lines.
const TOGETHER: usize = 32;

/// The natural logarithm of `softmax(scores)` at `targets[i]` in column `i` of `scores` `[vocabulary, tokens]`.
///
/// Sums run over the vocabulary in order, so they do not depend on the number of threads.
pub fn log_probabilities(scores: &Activations, targets: &[u32]) -> Vec<f64> {
    let mut found = vec![0.0; targets.len().min(scores.tokens())];
    found.par_chunks_mut(TOGETHER).enumerate().for_each(|(chunk, found)| {
        let first = chunk * TOGETHER;
        let columns = first..first + found.len();
        let mut largest = vec![f32::NEG_INFINITY; found.len()];
        for entry in 0..scores.features() {
            let row = &scores.feature(entry)[columns.clone()];
            largest.iter_mut().zip(row).for_each(|(m, s)| *m = m.max(*s));
        }
        let mut sums = vec![0.0f64; found.len()];
        for entry in 0..scores.features() {
            let row = &scores.feature(entry)[columns.clone()];
            for ((sum, m), s) in sums.iter_mut().zip(&largest).zip(row) {
                *sum += f64::from((s - m).exp());
            }
        }
        for (index, found) in found.iter_mut().enumerate() {
            let score = scores.feature(targets[first + index] as usize)[first + index];
            *found = f64::from(score) - f64::from(largest[index]) - sums[index].ln();
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
        let unlikely = log_probabilities(&Activations::from_tokens(&[0.0, 200.0], 2), &[0]);
        assert!((unlikely[0] + 200.0).abs() < 1e-6, "no underflow: {unlikely:?}");
    }
}
