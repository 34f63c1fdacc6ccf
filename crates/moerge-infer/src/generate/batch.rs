//! Generates many sequences at once: each step reads every weight once and appends a token to each sequence.

use super::{Sampler, Sampling};
use crate::decoder::{KvCache, ResidentModel};
use moerge_core::{error::Result, progress::Progress};

/// Continues each of `prompts` by `tokens` tokens, never with one of `banned`, and returns the continuations.
///
/// `step` is called after each step.
pub fn generate_batch(
    model: &ResidentModel,
    prompts: &[Vec<u32>],
    tokens: usize,
    sampling: Sampling,
    banned: &[u32],
    progress: &dyn Progress,
    mut step: impl FnMut(),
) -> Result<Vec<Vec<u32>>> {
    let mut cache = KvCache::new(model.options(), prompts.len());
    let mut samplers: Vec<Sampler> = (0..prompts.len()).map(|i| Sampler::new(sampling, i as u64)).collect();
    let mut sequences = prompts.to_vec();
    let mut seen = vec![0; prompts.len()];
    for _ in 0..tokens {
        let next: Vec<(usize, &[u32])> =
            sequences.iter().zip(&seen).enumerate().map(|(i, (tokens, seen))| (i, &tokens[*seen..])).collect();
        let scores = model.step(&mut cache, &next, &mut (), progress)?;
        for (index, (sequence, sampler)) in sequences.iter_mut().zip(&mut samplers).enumerate() {
            seen[index] = sequence.len();
            let token = sampler.choose(scores.token(index), sequence, banned);
            sequence.push(token);
        }
        step();
    }
    Ok(sequences.into_iter().zip(prompts).map(|(sequence, prompt)| sequence[prompt.len()..].to_vec()).collect())
}
