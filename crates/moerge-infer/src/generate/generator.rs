//! A growing sequence with its KV cache and the logits of the next token.

use crate::decoder::{Activations, KvCache, Observer, ResidentModel};
use moerge_core::{
    error::{Error, Result},
    progress::Progress,
};

/// Tokens per forward pass: enough to be fast, few enough to cancel quickly.
const PROMPT_TOKENS: usize = 256;
/// Tokens whose logits are in memory at once.
const SCORED_TOKENS: usize = 16;

/// A sequence that grows token by token.
pub struct Generator<'a> {
    model: &'a ResidentModel,
    cache: KvCache,
    /// The tokens in the cache.
    tokens: Vec<u32>,
    /// Maximum length in tokens.
    context: usize,
    /// Logits `[vocabulary]` of the next token.
    scores: Vec<f32>,
}

impl<'a> Generator<'a> {
    /// An empty sequence that may grow to `context` tokens.
    pub fn new(model: &'a ResidentModel, context: usize) -> Self {
        let cache = KvCache::new(model.options(), 1);
        Self { model, cache, tokens: Vec::new(), context, scores: Vec::new() }
    }

    /// All tokens of the sequence.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Whether there is room for another token.
    pub fn has_room(&self) -> bool {
        self.tokens.len() < self.context
    }

    /// Logits `[vocabulary]` of the next token.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// Sets the sequence to `tokens`. A prefix shared with the previous sequence is not recomputed; `observer` sees the
    /// rest.
    ///
    /// # Errors
    /// There are no tokens or more than the context, the model fails, or the user stops the run.
    pub fn set(&mut self, tokens: &[u32], observer: &mut (dyn Observer + Send), progress: &dyn Progress) -> Result<()> {
        self.check(tokens)?;
        let common = self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        // The last token is always computed, for its logits.
        let kept = common.min(tokens.len() - 1);
        self.cache.truncate(0, kept);
        self.tokens.truncate(kept);
        for part in tokens[kept..].chunks(PROMPT_TOKENS) {
            self.read(part, observer, progress)?;
        }
        Ok(())
    }

    /// Like [`Generator::set`], but computes all tokens: `scored` receives the next-token logits `[vocabulary]` after
    /// each.
    ///
    /// # Errors
    /// As for [`Generator::set`], or `scored` fails.
    pub fn set_scored(
        &mut self,
        tokens: &[u32],
        progress: &dyn Progress,
        scored: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        self.check(tokens)?;
        self.clear();
        for part in tokens.chunks(PROMPT_TOKENS) {
            let x = self.model.forward(&mut self.cache, &[(0, part)], &mut (), progress);
            let x = self.appended(part, x)?;
            let columns: Vec<usize> = (0..part.len()).collect();
            for columns in columns.chunks(SCORED_TOKENS) {
                progress.check()?;
                let scores = self.model.logits(&x.gather(columns))?;
                for column in 0..columns.len() {
                    self.scores = scores.token(column);
                    scored(&self.scores)?;
                }
            }
        }
        Ok(())
    }

    /// Clears the sequence, so the next one is computed from scratch.
    pub fn clear(&mut self) {
        self.cache.truncate(0, 0);
        self.tokens.clear();
    }

    /// Checks the length of `tokens`.
    fn check(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::input("the prompt has no tokens").hint("write at least a word"));
        }
        if tokens.len() > self.context {
            return Err(Error::input(format!(
                "the text has {} tokens, and the model's context is {}",
                tokens.len(),
                self.context
            ))
            .hint("shorten it, or begin a new conversation"));
        }
        Ok(())
    }

    /// Appends a token and computes the next logits.
    ///
    /// # Errors
    /// The model fails, or the user stops the run.
    pub fn push(&mut self, token: u32, observer: &mut (dyn Observer + Send), progress: &dyn Progress) -> Result<()> {
        self.read(&[token], observer, progress)
    }

    fn read(&mut self, tokens: &[u32], observer: &mut (dyn Observer + Send), progress: &dyn Progress) -> Result<()> {
        let scores = self.model.step(&mut self.cache, &[(0, tokens)], observer, progress);
        self.scores = self.appended(tokens, scores)?.token(0);
        Ok(())
    }

    /// Records the outcome of running the model on `tokens`.
    fn appended(&mut self, tokens: &[u32], outcome: Result<Activations>) -> Result<Activations> {
        match outcome {
            Ok(_) => self.tokens.extend(tokens),
            // Some layers may have seen the tokens, others not.
            Err(_) => self.cache.truncate(0, self.tokens.len()),
        }
        outcome
    }
}
