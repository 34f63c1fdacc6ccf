//! Generates an answer token by token until a stop token or a limit.

use std::{collections::BTreeSet, ops::ControlFlow};

use super::{Generator, RoutingTrace, Sampler, TextStream};
use crate::tokenizer::Tokenizer;
use moerge_core::{error::Result, progress::Progress};

/// A token of an answer.
#[derive(Debug)]
pub struct Piece<'a> {
    /// The token.
    pub token: u32,
    /// The text it completes; empty while a character is incomplete.
    pub text: &'a str,
    /// The experts that produced it.
    pub trace: &'a RoutingTrace,
    /// The logits `[vocabulary]` it was sampled from.
    pub scores: &'a [f32],
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The model generated a stop token.
    Stop,
    /// It reached the maximum number of tokens.
    Length,
    /// The model's context is full.
    Context,
    /// The caller ended it.
    Cancelled,
}

/// What limits an answer.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Tokens that end it.
    pub stop: BTreeSet<u32>,
    /// Maximum number of tokens.
    pub tokens: usize,
}

/// Sets the sequence to `prompt` and generates from there. `piece` receives every token except the stop token.
///
/// # Errors
/// The prompt is empty or longer than the context, or the run was stopped.
pub fn answer(
    generator: &mut Generator<'_>,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    sampler: &mut Sampler,
    limits: &Limits,
    progress: &dyn Progress,
    piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
) -> Result<End> {
    let mut trace = RoutingTrace::default();
    generator.set(prompt, &mut trace, progress)?;
    let mut text = TextStream::new(tokenizer, prompt);
    for _ in 0..limits.tokens {
        let token = sampler.choose(generator.scores().to_vec(), generator.tokens(), &[]);
        if limits.stop.contains(&token) {
            return Ok(End::Stop);
        }
        let new = text.push(token)?;
        if piece(Piece { token, text: &new, trace: &trace, scores: generator.scores() }).is_break() {
            return Ok(End::Cancelled);
        }
        if !generator.has_room() {
            return Ok(End::Context);
        }
        generator.push(token, &mut trace, progress)?;
    }
    Ok(End::Length)
}
