//! Answers many prompts greedily at once.

use super::{
    TextStream,
    many::{Together, continue_many},
};
use crate::{
    decoder::{Activations, KvCache, Observer, ResidentModel},
    tokenizer::Tokenizer,
};
use moerge_core::{error::Result, progress::Progress};

/// Answers in progress at once, unless their KV caches would take more than [`MAX_CACHE`].
const TOGETHER: usize = 32;
const MAX_CACHE: u64 = 2 << 30;
/// New prompt tokens per step, so that activations stay small.
const PROMPT_TOKENS: usize = 2048;

/// What ends an answer.
#[derive(Debug, Clone, Copy)]
pub struct GreedyLimits<'a> {
    /// Texts that end it, and are not part of it.
    pub until: &'a [&'a str],
    /// A token that ends it.
    pub eos: Option<u32>,
    /// Maximum number of tokens.
    pub tokens: usize,
    /// Tokens of the model's context. A prompt that leaves no room for the answer loses its beginning.
    pub context: usize,
}

/// An answer in progress.
struct Writing<'t> {
    written: usize,
    stream: TextStream<'t>,
    text: String,
}

/// Continues each of `prompts`, and gives the text of each to `done` with the prompt's index as it ends.
///
/// # Errors
/// `done` fails, a token has no embedding, or the run was stopped.
pub fn generate_greedily(
    model: &ResidentModel,
    tokenizer: &Tokenizer,
    prompts: &[&[u32]],
    limits: &GreedyLimits<'_>,
    observer: &mut (dyn Observer + Send),
    progress: &dyn Progress,
    done: &mut dyn FnMut(usize, String) -> Result<()>,
) -> Result<()> {
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0) + limits.tokens;
    let bytes = KvCache::bytes(model.options(), longest.min(limits.context)).max(1);
    let sequences = ((MAX_CACHE / bytes) as usize).clamp(1, TOGETHER);
    let together = Together { sequences, prompt_tokens: PROMPT_TOKENS };
    let room = limits.context.saturating_sub(limits.tokens).max(1);
    let prompts: Vec<&[u32]> = prompts.iter().map(|prompt| &prompt[prompt.len().saturating_sub(room)..]).collect();
    let mut writings: Vec<Option<Writing<'_>>> = prompts.iter().map(|_| None).collect();
    continue_many(model, &prompts, together, observer, progress, &mut |numbers, scores| {
        let mut chosen = Vec::with_capacity(numbers.len());
        for (&number, token) in numbers.iter().zip(best_tokens(scores)) {
            let writing = writings[number].get_or_insert_with(|| Writing::new(tokenizer, prompts[number]));
            let ends = writing.append(token, limits)?;
            if ends && let Some(writing) = writings[number].take() {
                done(number, writing.text)?;
            }
            chosen.push((!ends).then_some(token));
        }
        Ok(chosen)
    })
}

impl<'t> Writing<'t> {
    fn new(tokenizer: &'t Tokenizer, prompt: &[u32]) -> Self {
        Self { written: 0, stream: TextStream::new(tokenizer, prompt), text: String::new() }
    }

    /// Appends a token; whether the answer has ended.
    fn append(&mut self, token: u32, limits: &GreedyLimits<'_>) -> Result<bool> {
        if limits.eos == Some(token) {
            return Ok(true);
        }
        self.written += 1;
        // Where a stop may begin: it may be split between tokens.
        let longest = limits.until.iter().map(|stop| stop.len()).max().unwrap_or(0);
        let mut from = self.text.len().saturating_sub(longest);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        self.text.push_str(&self.stream.push(token)?);
        let stop = limits.until.iter().filter_map(|stop| self.text[from..].find(stop)).min();
        if let Some(stop) = stop {
            self.text.truncate(from + stop);
        }
        Ok(stop.is_some() || self.written == limits.tokens)
    }
}

/// The token with the highest logit in each column, of equal ones the first.
fn best_tokens(scores: &Activations) -> Vec<u32> {
    let mut best = vec![(f32::NEG_INFINITY, 0); scores.tokens()];
    for (token, entry) in (0..).zip(0..scores.features()) {
        for (best, score) in best.iter_mut().zip(scores.feature(entry)) {
            if *score > best.0 {
                *best = (*score, token);
            }
        }
    }
    best.into_iter().map(|(_, token)| token).collect()
}
