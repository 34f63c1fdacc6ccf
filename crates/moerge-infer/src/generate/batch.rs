//! Samples a number of tokens after each of several prompts.

use super::{
    Sampler, Sampling,
    many::{Together, continue_many},
};
use crate::decoder::ResidentModel;
use moerge_core::{error::Result, progress::Progress};

/// Continues each of `prompts` by `tokens` tokens, never with one of `banned`, and returns the continuations.
///
/// `step` is called after each step.
///
/// # Errors
/// A token has no embedding, or the run was stopped.
pub fn generate_batch(
    model: &ResidentModel,
    prompts: &[Vec<u32>],
    tokens: usize,
    sampling: Sampling,
    banned: &[u32],
    progress: &dyn Progress,
    mut step: impl FnMut(),
) -> Result<Vec<Vec<u32>>> {
    let mut samplers: Vec<Sampler> = (0..prompts.len()).map(|i| Sampler::new(sampling, i as u64)).collect();
    let mut sequences = prompts.to_vec();
    if tokens > 0 {
        let beginnings: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        // All at once, so that the plan can say how much memory that takes.
        let together = Together { sequences: prompts.len(), prompt_tokens: usize::MAX };
        continue_many(model, &beginnings, together, &mut (), progress, &mut |numbers, scores| {
            let chosen = numbers.iter().enumerate().map(|(column, &number)| {
                let sequence = &mut sequences[number];
                let token = samplers[number].choose(scores.token(column), sequence, banned);
                sequence.push(token);
                (sequence.len() < prompts[number].len() + tokens).then_some(token)
            });
            let chosen = chosen.collect();
            step();
            Ok(chosen)
        })?;
    }
    Ok(sequences.into_iter().zip(prompts).map(|(sequence, prompt)| sequence[prompt.len()..].to_vec()).collect())
}
