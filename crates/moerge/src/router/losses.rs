//! How well a model says each next token of some sequences.

use crate::{
    error::Result,
    progress::Progress,
    transformer::{Activations, WeightRounding, Weights, forward, logits, ranges},
};

/// Scores that exist at once: 256 MB of them, each block of tokens reading the head once.
const SCORES: usize = 64 << 20;

/// For every token of the packed `sequences`, minus the natural logarithm of the probability that `weights` give to the
/// token after it; `None` for the last of each sequence.
pub(super) fn next_token_losses(
    weights: &dyn Weights,
    sequences: &[Vec<u32>],
    rounding: Option<WeightRounding>,
    progress: &dyn Progress,
) -> Result<Vec<Option<f64>>> {
    let options = &weights.description().decoder;
    let x = forward(weights, sequences, options.layers, rounding, &mut (), progress)?;
    let mut losses = vec![None; x.tokens()];
    let mut wanted = Vec::new();
    for (range, sequence) in ranges(sequences).into_iter().zip(sequences) {
        wanted.extend(range.zip(sequence.iter().skip(1).copied()));
    }
    for block in wanted.chunks((SCORES / options.vocabulary.max(1)).max(1)) {
        let columns: Vec<usize> = block.iter().map(|(column, _)| *column).collect();
        let scores = logits(weights, &x.gather(&columns), progress)?;
        for ((column, next), loss) in block.iter().zip(cross_entropies(&scores, block)) {
            losses[*column] = (*next as usize).lt(&options.vocabulary).then_some(loss);
        }
    }
    Ok(losses)
}

/// `log(sum(exp(scores))) - score of the token that came`, column by column.
fn cross_entropies(scores: &Activations, came: &[(usize, u32)]) -> Vec<f64> {
    let mut largest = vec![f32::NEG_INFINITY; came.len()];
    let mut own = vec![0.0; came.len()];
    for entry in 0..scores.features() {
        let row = scores.feature(entry);
        largest.iter_mut().zip(row).for_each(|(m, s)| *m = m.max(*s));
        for ((own, score), (_, next)) in own.iter_mut().zip(row).zip(came) {
            if *next as usize == entry {
                *own = *score;
            }
        }
    }
    let mut sums = vec![0.0f64; came.len()];
    for entry in 0..scores.features() {
        let row = scores.feature(entry);
        sums.iter_mut().zip(&largest).zip(row).for_each(|((sum, m), s)| *sum += f64::from((s - m).exp()));
    }
    let loss = |((sum, largest), own): ((&f64, &f32), &f32)| sum.ln() + f64::from(*largest) - f64::from(*own);
    sums.iter().zip(&largest).zip(&own).map(loss).collect()
}

/// `exp` of the mean of the losses that are known.
pub(super) fn perplexity(losses: &[Option<f64>]) -> f64 {
    let known: Vec<f64> = losses.iter().flatten().copied().collect();
    (known.iter().sum::<f64>() / known.len().max(1) as f64).exp()
}
