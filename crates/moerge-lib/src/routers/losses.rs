//! How well a model says each next token of some sequences.

use moerge_core::{error::Result, progress::Progress};
use moerge_infer::decoder::{Observer, WeightRounding, Weights, forward, log_probabilities, logits, ranges};

/// Scores that exist at once: 64 MiB of them, each block of tokens reading the head once.
const SCORES: usize = 16 << 20;

/// For every token of the packed `sequences`, minus the natural logarithm of the probability that `weights` give to the
/// token after it; `None` for the last of each sequence.
pub(super) fn next_token_losses(
    weights: &dyn Weights,
    sequences: &[Vec<u32>],
    rounding: Option<WeightRounding>,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
) -> Result<Vec<Option<f64>>> {
    losses_at(weights, sequences, |_| true, rounding, observer, progress)
}

/// The same for those tokens only that are `counted`, while `observer` looks on.
pub(super) fn losses_at(
    weights: &dyn Weights,
    sequences: &[Vec<u32>],
    counted: impl Fn(usize) -> bool,
    rounding: Option<WeightRounding>,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
) -> Result<Vec<Option<f64>>> {
    let options = &weights.description().decoder;
    let x = forward(weights, sequences, options.layers.len(), rounding, observer, progress)?;
    let mut losses = vec![None; x.tokens()];
    // A token that the model does not know has no loss.
    let mut wanted: Vec<(usize, u32)> = Vec::new();
    for (range, sequence) in ranges(sequences).into_iter().zip(sequences) {
        let next = sequence.iter().skip(1).copied();
        let known = |(column, next): &(usize, u32)| (*next as usize) < options.vocabulary && counted(*column);
        wanted.extend(range.zip(next).filter(known));
    }
    for block in wanted.chunks((SCORES / options.vocabulary.max(1)).max(1)) {
        let (columns, came): (Vec<usize>, Vec<u32>) = block.iter().copied().unzip();
        let scores = logits(weights, &x.gather(&columns), progress)?;
        for (column, found) in columns.into_iter().zip(log_probabilities(&scores, &came)) {
            losses[column] = Some(-found);
        }
    }
    Ok(losses)
}

/// Bytes that the scores of so many tokens take at the most.
pub(super) fn scores_bytes(vocabulary: usize, tokens: usize) -> u64 {
    (SCORES.max(vocabulary).min(vocabulary * tokens) * size_of::<f32>()) as u64
}

/// `exp` of the mean of the losses that are known.
pub(super) fn perplexity(losses: &[Option<f64>]) -> f64 {
    let known: Vec<f64> = losses.iter().flatten().copied().collect();
    (known.iter().sum::<f64>() / known.len().max(1) as f64).exp()
}
