//! The loss of a model on each next token of some sequences.

use moerge_core::{error::Result, progress::Progress};
use moerge_infer::decoder::{Observer, Pass, WeightRounding, Weights, forward, log_probabilities, logits, ranges};

/// Logits in memory at once: 64 MiB. The head is read once per block of tokens.
const SCORES: usize = 16 << 20;

/// For every token of the packed `sequences`, the negative log-probability (in nats) of the token after it under
/// `weights`; `None` for the last token of each sequence.
pub(super) fn next_token_losses(
    weights: &dyn Weights,
    sequences: &[Vec<u32>],
    rounding: Option<WeightRounding>,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
) -> Result<Vec<Option<f64>>> {
    losses_at(weights, sequences, |_| true, rounding, observer, progress)
}

/// The same for `counted` tokens only, with an observer.
pub(super) fn losses_at(
    weights: &dyn Weights,
    sequences: &[Vec<u32>],
    counted: impl Fn(usize) -> bool,
    rounding: Option<WeightRounding>,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
) -> Result<Vec<Option<f64>>> {
    let options = &weights.description().decoder;
    let x = forward(weights, sequences, Pass { rounding, ..Pass::default() }, observer, progress)?;
    let mut losses = vec![None; x.tokens()];
    // A token outside the model's vocabulary has no loss.
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

/// An upper bound on the bytes of the logits of this many tokens.
pub(super) fn scores_bytes(vocabulary: usize, tokens: usize) -> u64 {
    (SCORES.max(vocabulary).min(vocabulary * tokens) * size_of::<f32>()) as u64
}

/// `exp` of the mean of the known losses.
pub(super) fn perplexity(losses: &[Option<f64>]) -> f64 {
    let known: Vec<f64> = losses.iter().flatten().copied().collect();
    (known.iter().sum::<f64>() / known.len().max(1) as f64).exp()
}
