//! The prompts of all experts as token sequences, without duplicates.

use std::collections::HashMap;

use moerge_core::{
    error::{Error, Result},
    plan::{Prompts, Routing},
    progress::Progress,
    recipe::GateMode,
};
use moerge_infer::tokenizer::Tokenizer;

/// Maximum bytes of a prompt per token of the context: twice the average of English text.
const MAX_BYTES_PER_TOKEN: usize = 8;
/// Maximum bytes of a prompt for any context. Tokenizing this many takes about a second, which bounds how long a run
/// takes to stop.
const MAX_PROMPT: usize = 256 << 10;
/// The limit is at least this, however short the context.
const MIN_PROMPT: usize = 4 << 10;

/// The sequences to run, and which expert needs which.
pub(super) struct PromptSet {
    /// The distinct token sequences.
    pub(super) sequences: Vec<Vec<u32>>,
    /// The prompts of each expert; those of the shared expert are last.
    pub(super) experts: Vec<PromptIndices>,
}

/// The prompts of an expert as indices into [`PromptSet::sequences`].
pub(super) struct PromptIndices {
    pub(super) positive: Vec<usize>,
    pub(super) negative: Vec<usize>,
}

/// Maximum bytes of a prompt if `gate_mode` runs prompts as a whole through a model with a context of `context` tokens.
/// `None` for modes that split text into windows or use none.
pub fn max_prompt_bytes(gate_mode: GateMode, context: usize) -> Option<usize> {
    let of_context = context.saturating_mul(MAX_BYTES_PER_TOKEN).clamp(MIN_PROMPT, MAX_PROMPT);
    match gate_mode {
        GateMode::Hidden | GateMode::HiddenAvg | GateMode::HiddenLast | GateMode::SelfCalibrated => Some(of_context),
        // A sum of embeddings does not depend on positions.
        GateMode::CheapEmbed => Some(MAX_PROMPT),
        GateMode::Random
        | GateMode::UniformRandom
        | GateMode::RouterInput
        | GateMode::Calibrated
        | GateMode::PhatGoose => None,
    }
}

/// The length in tokens of each distinct prompt.
///
/// # Errors
/// A prompt cannot be tokenized, or the user stops the run.
pub fn prompt_lengths(routing: &Routing, tokenizer: &Tokenizer, progress: &dyn Progress) -> Result<Vec<usize>> {
    Ok(PromptSet::new(routing, tokenizer, progress)?.sequences.iter().map(Vec::len).collect())
}

/// The experts with prompts that have no tokens: empty prompts if the tokenizer has no bos token.
///
/// # Errors
/// A prompt cannot be tokenized.
pub fn experts_with_ignored_prompts(routing: &Routing, tokenizer: &Tokenizer) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (expert, prompts) in all_experts(routing) {
        for prompt in prompts.positive.iter().chain(&prompts.negative).filter(|prompt| prompt.trim().is_empty()) {
            if tokenizer.prompt_tokens(prompt)?.is_empty() {
                names.push(expert);
                break;
            }
        }
    }
    Ok(names)
}

/// All experts with a gate, with their names.
fn all_experts(routing: &Routing) -> impl Iterator<Item = (String, &Prompts)> {
    let experts = routing.experts.iter().enumerate().map(|(index, prompts)| (format!("expert {index}"), prompts));
    experts.chain(routing.shared_expert.iter().map(|prompts| ("the shared expert".to_owned(), prompts)))
}

impl PromptSet {
    /// Tokenizes the prompts. Prompts without tokens are left out: their sum of embeddings is zero.
    pub(super) fn new(routing: &Routing, tokenizer: &Tokenizer, progress: &dyn Progress) -> Result<Self> {
        let mut indices: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut sequences = Vec::new();
        let mut encode = |name: &str, prompts: &[String]| -> Result<Vec<usize>> {
            let mut found = Vec::new();
            for prompt in prompts {
                progress.check()?;
                let tokens = tokenizer.prompt_tokens(prompt)?;
                if tokens.is_empty() {
                    continue;
                }
                found.push(*indices.entry(tokens).or_insert_with_key(|tokens| {
                    sequences.push(tokens.clone());
                    sequences.len() - 1
                }));
            }
            if found.is_empty() && !prompts.is_empty() {
                return Err(Error::input(format!("the prompts of {name} have no tokens"))
                    .fact("prompt", format!("{:?}", prompts[0]))
                    .hint("the base's tokenizer has no bos token, so an empty prompt has no tokens: write some text"));
            }
            Ok(found)
        };
        let mut experts = Vec::new();
        for (name, prompts) in all_experts(routing) {
            let (positive, negative) = (encode(&name, &prompts.positive)?, encode(&name, &prompts.negative)?);
            experts.push(PromptIndices { positive, negative });
        }
        Ok(Self { sequences, experts })
    }
}
