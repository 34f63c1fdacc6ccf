//! Text that the experts generate themselves, so routers can be fitted without prompts or data.
//!
//! Each expert continues its prompts, or bos alone if it has none: by default 32 samples of 32 tokens at
//! temperature 1 and top-p 0.95, without end-of-text tokens. Routers fitted to it route like those fitted to real text
//! (docs/routers.md).

use serde::{Deserialize, Serialize};

use moerge_core::{
    error::Result,
    plan::Prompts,
    progress::{Progress, Stage},
    recipe::SelfText,
};
use moerge_infer::{
    decoder::{Quantisation, ResidentModel, Weights},
    generate::{Sampling, generate_batch},
    tokenizer::Tokenizer,
};

/// The output file with the generated text.
pub const SELF_TEXT_FILE: &str = "self_text.json";

/// Top-p: the unlikely tail is where a model derails.
const TOP_P: f32 = 0.95;

/// The text of one expert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertText {
    /// The expert's index.
    pub expert: usize,
    /// Its model, as named in the recipe.
    pub model: String,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// A sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The text, including its prompt.
    pub text: String,
    /// Its tokens, including bos.
    pub tokens: Vec<u32>,
}

/// Generates text with the model of these `weights`, which is loaded in the format `quantisation`. `seed` is this
/// expert's own.
///
/// # Errors
/// The weights cannot be read, a prompt cannot be tokenized, or the user stops the run.
pub fn write_samples(
    weights: &dyn Weights,
    tokenizer: &Tokenizer,
    prompts: &Prompts,
    settings: &SelfText,
    seed: u64,
    quantisation: Quantisation,
    progress: &dyn Progress,
) -> Result<Vec<Sample>> {
    let begins = beginnings(tokenizer, prompts, settings.samples)?;
    // Tokens such as end of text would end a sample early; ids above the base's vocabulary are unknown to the
    // MoE.
    let vocabulary = weights.description().decoder.vocabulary as u32;
    let mut banned = tokenizer.special_tokens();
    let end = tokenizer.last_token().map_or(0, |(id, _)| id.saturating_add(1));
    banned.extend(end..vocabulary);
    let model = ResidentModel::load(weights, quantisation, progress)?;
    let sampling = Sampling {
        temperature: settings.temperature as f32,
        top_k: 0,
        top_p: TOP_P,
        min_p: 0.0,
        repetition_penalty: 1.0,
        seed,
    };
    let step = || progress.advance(Stage::SelfText, begins.len() as u64);
    let written = generate_batch(&model, &begins, settings.tokens, sampling, &banned, progress, step)?;
    let sample = |(begin, written): (&Vec<u32>, Vec<u32>)| {
        let tokens = [begin.as_slice(), &written].concat();
        Ok(Sample { text: tokenizer.decode(&tokens)?, tokens })
    };
    begins.iter().zip(written).map(sample).collect()
}

/// The final length in tokens of each sample of an expert, including its prompt.
///
/// # Errors
/// A prompt cannot be tokenized.
pub fn sample_lengths(tokenizer: &Tokenizer, prompts: &Prompts, settings: &SelfText) -> Result<Vec<usize>> {
    let begins = beginnings(tokenizer, prompts, settings.samples)?;
    Ok(begins.iter().map(|begin| begin.len() + settings.tokens).collect())
}

/// The beginnings of `samples` samples: the prompts in turn, or bos or its closest substitute.
fn beginnings(tokenizer: &Tokenizer, prompts: &Prompts, samples: usize) -> Result<Vec<Vec<u32>>> {
    let begins: Vec<Vec<u32>> = if prompts.positive.is_empty() {
        vec![tokenizer.beginning()?]
    } else {
        prompts
            .positive
            .iter()
            .take(samples.max(1))
            .map(|prompt| tokenizer.encode_prompt(prompt))
            .collect::<Result<_>>()?
    };
    Ok(begins.iter().cycle().take(samples).cloned().collect())
}
