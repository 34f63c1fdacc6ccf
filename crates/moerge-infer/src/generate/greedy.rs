//! Answers many prompts greedily at once: each step reads every weight once and appends a token to each answer. A
//! finished answer makes room for the next prompt.

use super::TextStream;
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
    prompt: usize,
    /// What the model has not read yet.
    next: Vec<u32>,
    written: usize,
    stream: TextStream<'t>,
    text: String,
}

/// Continues each of `prompts`, and gives the text of each to `done` with the prompt's index as it ends.
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
    let together = ((MAX_CACHE / bytes) as usize).clamp(1, TOGETHER).min(prompts.len());
    let mut cache = KvCache::new(model.options(), together);
    let mut slots: Vec<Option<Writing<'_>>> = (0..together).map(|_| None).collect();
    let mut waiting = (0..prompts.len()).peekable();
    loop {
        let mut new_tokens = 0;
        for (slot, writing) in slots.iter_mut().enumerate().filter(|(_, writing)| writing.is_none()) {
            let Some(prompt) = waiting.next_if(|_| new_tokens < PROMPT_TOKENS) else { break };
            let room = limits.context.saturating_sub(limits.tokens).max(1);
            let tokens = &prompts[prompt][prompts[prompt].len().saturating_sub(room)..];
            new_tokens += tokens.len();
            cache.truncate(slot, 0);
            let stream = TextStream::new(tokenizer, tokens);
            *writing = Some(Writing { prompt, next: tokens.to_vec(), written: 0, stream, text: String::new() });
        }
        let next: Vec<(usize, &[u32])> = slots
            .iter()
            .enumerate()
            .filter_map(|(slot, writing)| writing.as_ref().map(|writing| (slot, &writing.next[..])))
            .collect();
        if next.is_empty() {
            return Ok(());
        }
        let best = best_tokens(&model.step(&mut cache, &next, observer, progress)?);
        let active: Vec<usize> = next.iter().map(|(slot, _)| *slot).collect();
        for (slot, token) in active.into_iter().zip(best) {
            let Some(writing) = slots[slot].as_mut() else { continue };
            if !writing.append(token, limits)? {
                continue;
            }
            let (prompt, text) = (writing.prompt, std::mem::take(&mut writing.text));
            slots[slot] = None;
            done(prompt, text)?;
        }
    }
}

impl Writing<'_> {
    /// Appends a token; whether the answer has ended.
    fn append(&mut self, token: u32, limits: &GreedyLimits<'_>) -> Result<bool> {
        if limits.eos == Some(token) {
            return Ok(true);
        }
        self.written += 1;
        self.next = vec![token];
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
