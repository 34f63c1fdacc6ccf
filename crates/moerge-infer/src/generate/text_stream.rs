//! Decodes tokens one by one. A character may take several tokens, and a token's text may depend on earlier ones.

use crate::tokenizer::Tokenizer;
use moerge_core::error::Result;

/// The text of a growing sequence of tokens.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<u32>,
    /// Tokens before this one only serve as context.
    first: usize,
    /// Tokens before this one have been returned.
    given: usize,
}

impl<'a> TextStream<'a> {
    /// An empty stream; `before` are the preceding tokens.
    pub fn new(tokenizer: &'a Tokenizer, before: &[u32]) -> Self {
        let context = &before[before.len().saturating_sub(4)..];
        Self { tokenizer, tokens: context.to_vec(), first: 0, given: context.len() }
    }

    /// The text that `token` completes; empty while a character is incomplete.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn push(&mut self, token: u32) -> Result<String> {
        self.tokens.push(token);
        let before = self.tokenizer.decode(&self.tokens[self.first..self.given])?;
        let after = self.tokenizer.decode(&self.tokens[self.first..])?;
        if after.len() <= before.len() || after.ends_with('\u{fffd}') {
            return Ok(String::new());
        }
        let Some(new) = after.strip_prefix(before.as_str()) else { return Ok(String::new()) };
        self.first = self.given;
        self.given = self.tokens.len();
        Ok(new.to_owned())
    }

    /// The text that `token` would complete if it came next.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn would_push(&self, token: u32) -> Result<String> {
        let tokens = self.tokens[self.first..].to_vec();
        Self { tokenizer: self.tokenizer, tokens, first: 0, given: self.given - self.first }.push(token)
    }

    /// The remaining text, complete or not.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn finish(&mut self) -> Result<String> {
        let before = self.tokenizer.decode(&self.tokens[self.first..self.given])?;
        let after = self.tokenizer.decode(&self.tokens[self.first..])?;
        self.given = self.tokens.len();
        Ok(after.strip_prefix(before.as_str()).unwrap_or_default().to_owned())
    }
}
