//! The prompts of all experts as token sequences, each distinct one once.

use std::collections::HashMap;

use moerge_core::{
    error::Result,
    plan::{Prompts, Routing},
};
use moerge_infer::tokenizer::Tokenizer;

/// What is to be computed, and who needs which of it.
pub(super) struct PromptSet {
    /// The distinct sequences of tokens.
    pub(super) sequences: Vec<Vec<u32>>,
    /// Each expert's prompts, the shared expert's last.
    pub(super) experts: Vec<PromptIndices>,
}

/// An expert's prompts, as indices of [`PromptSet::sequences`].
pub(super) struct PromptIndices {
    pub(super) positive: Vec<usize>,
    pub(super) negative: Vec<usize>,
}

/// Tokens of each distinct prompt.
pub fn prompt_lengths(routing: &Routing, tokenizer: &Tokenizer) -> Result<Vec<usize>> {
    Ok(PromptSet::new(routing, tokenizer)?.sequences.iter().map(Vec::len).collect())
}

impl PromptSet {
    pub(super) fn new(routing: &Routing, tokenizer: &Tokenizer) -> Result<Self> {
        let mut indices: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut sequences = Vec::new();
        let mut encode = |texts: &[String]| -> Result<Vec<usize>> {
            let index = |text: &String| {
                let tokens = tokenizer.encode_prompt(text)?;
                Ok(*indices.entry(tokens).or_insert_with_key(|tokens| {
                    sequences.push(tokens.clone());
                    sequences.len() - 1
                }))
            };
            texts.iter().map(index).collect()
        };
        let mut expert =
            |p: &Prompts| Ok(PromptIndices { positive: encode(&p.positive)?, negative: encode(&p.negative)? });
        let experts = routing.experts.iter().chain(&routing.shared_expert).map(&mut expert).collect::<Result<_>>()?;
        Ok(Self { sequences, experts })
    }
}
