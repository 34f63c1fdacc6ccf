//! The loss of a model on each next token of some sequences.

use moerge_core::{error::Result, progress::Progress};
use moerge_infer::decoder::{Activations, Observer, Pass, WeightRounding, Weights, forward, ranges, token_scores};

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

/// The same for `counted` tokens only.
pub(super) fn losses_at(
    weights: &dyn Weights,
    sequences: &[Vec<u32>],
    counted: impl Fn(usize) -> bool,
    rounding: Option<WeightRounding>,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
) -> Result<Vec<Option<f64>>> {
    let x = forward(weights, sequences, Pass { rounding, ..Pass::default() }, observer, progress)?;
    let mut wanted: Vec<(usize, u32)> = Vec::new();
    for (range, sequence) in ranges(sequences).into_iter().zip(sequences) {
        let next = sequence.iter().skip(1).copied();
        wanted.extend(range.zip(next).filter(|(column, _)| counted(*column)));
    }
    let mut losses = vec![None; x.tokens()];
    for ((column, _), loss) in wanted.iter().zip(losses_of(weights, &x, &wanted, progress)?) {
        losses[*column] = loss;
    }
    Ok(losses)
}

/// The loss of the token `.1` after column `.0` of `x`, the stream that left the last layer. A token outside the model's
/// vocabulary has none.
pub(super) fn losses_of(
    weights: &dyn Weights,
    x: &Activations,
    wanted: &[(usize, u32)],
    progress: &dyn Progress,
) -> Result<Vec<Option<f64>>> {
    let vocabulary = weights.description().decoder.vocabulary;
    let known: Vec<usize> = (0..wanted.len()).filter(|i| (wanted[*i].1 as usize) < vocabulary).collect();
    let tokens: Vec<(usize, u32)> = known.iter().map(|i| wanted[*i]).collect();
    let mut losses = vec![None; wanted.len()];
    for (i, score) in known.into_iter().zip(token_scores(weights, x, &tokens, progress)?) {
        losses[i] = Some(-score.log_probability);
    }
    Ok(losses)
}

/// `exp` of the mean of the known losses.
pub(super) fn perplexity(losses: &[Option<f64>]) -> f64 {
    let known: Vec<f64> = losses.iter().flatten().copied().collect();
    (known.iter().sum::<f64>() / known.len().max(1) as f64).exp()
}
