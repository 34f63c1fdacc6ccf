//! What an expert writes when nobody asks it anything: text that shows what it is for, without prompts or data.
//!
//! Each expert continues its prompts, or bos alone where it has none: by default a dozen samples of 64 tokens at
//! temperature 1 and top-p 0.95, without ever ending the text (ROUTERS: the routers fitted to it route as those fitted
//! to real text do).

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

/// Name of the file in the output that holds what the experts wrote.
pub const SELF_TEXT_FILE: &str = "self_text.json";

/// Probability mass that is sampled from: the unlikely rest is where a model derails.
const TOP_P: f32 = 0.95;

/// What one expert wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertText {
    /// The expert's number.
    pub expert: usize,
    /// Its model, as the recipe calls it.
    pub model: String,
    /// Its texts.
    pub samples: Vec<Sample>,
}

/// One text of an expert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The text, its prompt included.
    pub text: String,
    /// Its tokens, from bos on.
    pub tokens: Vec<u32>,
}

/// Lets the model with these `weights` write, kept in memory as `quantisation` says. `seed` is this expert's own.
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
    // Marks such as end of text would end a sample before it says anything; ids above the base's vocabulary mean
    // nothing to the MoE.
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

/// How long each text of an expert will be, in tokens, with what it begins with.
pub fn sample_lengths(tokenizer: &Tokenizer, prompts: &Prompts, settings: &SelfText) -> Result<Vec<usize>> {
    let begins = beginnings(tokenizer, prompts, settings.samples)?;
    Ok(begins.iter().map(|begin| begin.len() + settings.tokens).collect())
}

/// What each of `samples` texts begins with: the prompts in turn, or bos, or what is nearest to it.
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
