//! Compares the perplexity of the new MoE with that of its models on the recipe's validation text.

use serde::{Deserialize, Serialize};

use super::{
    Routers,
    calibration::ExpertTokens,
    losses::{next_token_losses, perplexity},
    merged::Merged,
};
use moerge_core::{
    error::Result,
    plan::{MoePlan, Prompts},
    progress::{Progress, Stage},
};
use moerge_infer::{
    decoder::{WeightRounding, Weights, ranges},
    tokenizer::Tokenizer,
};

/// Perplexities on the validation texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// The columns: the experts with validation text.
    pub texts_of: Vec<usize>,
    /// The rows: the base, each expert alone, the best expert for each text, and the MoE.
    pub models: Vec<ModelPerplexity>,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelPerplexity {
    /// `base`, `expert 0`, `best expert`, `moe`.
    pub model: String,
    /// The perplexity on each text.
    pub perplexity: Vec<f64>,
    /// The geometric mean of the perplexities.
    pub geometric_mean: f64,
}

impl ModelPerplexity {
    fn new(model: impl Into<String>, perplexity: Vec<f64>) -> Self {
        let mean = perplexity.iter().map(|p| p.ln()).sum::<f64>() / perplexity.len().max(1) as f64;
        Self { model: model.into(), perplexity, geometric_mean: mean.exp() }
    }
}

impl Validation {
    /// An empty table with the size of that of `plan`.
    pub(super) fn blank(plan: &MoePlan) -> Self {
        let texts = plan.routing.validation.iter().enumerate();
        let texts_of: Vec<usize> = texts.filter(|(_, texts)| !texts.is_empty()).map(|(expert, _)| expert).collect();
        let experts = (0..plan.routing.slots.experts()).map(|e| format!("expert {e}"));
        let names = std::iter::once("base".to_owned()).chain(experts).chain(["best expert".into(), "moe".into()]);
        let models = names.map(|name| ModelPerplexity::new(name, vec![0.0; texts_of.len()])).collect();
        Self { texts_of, models }
    }
}

/// Measures the MoE with `routers`, each expert alone with the same shared weights, and the base, with one pass over
/// the weights for each.
///
/// # Errors
/// A text cannot be tokenized, the weights cannot be read, or the user stops the run.
pub fn validate(
    plan: &MoePlan,
    routers: &Routers,
    base: &dyn Weights,
    tokenizer: &Tokenizer,
    rounding: Option<WeightRounding>,
    progress: &dyn Progress,
) -> Result<Validation> {
    let mut validation = Validation::blank(plan);
    let mut sequences = Vec::new();
    let mut texts = Vec::new();
    for expert in &validation.texts_of {
        let positive = plan.routing.validation.get(*expert).cloned().unwrap_or_default();
        let prompts = Prompts { positive, negative: Vec::new() };
        let tokens = ExpertTokens::of(&prompts, tokenizer, plan.routing.fit.tokens, progress)?.positive;
        let first = sequences.len();
        sequences.extend(tokens);
        texts.push(first..sequences.len());
    }
    let columns = ranges(&sequences);
    let perplexities = |weights: &dyn Weights| -> Result<Vec<f64>> {
        let losses = next_token_losses(weights, &sequences, rounding, &mut (), progress)?;
        let text = |text: &std::ops::Range<usize>| match columns.get(text.clone()) {
            Some([first, .., last]) => perplexity(&losses[first.start..last.end]),
            Some([only]) => perplexity(&losses[only.clone()]),
            _ => f64::NAN,
        };
        Ok(texts.iter().map(text).collect())
    };
    let experts = plan.routing.slots.experts();
    progress.start(Stage::Prompts, (plan.description.decoder.layers.len() * (experts + 2)) as u64, 0);
    let mut rows = vec![ModelPerplexity::new("base", perplexities(base)?)];
    for expert in 0..experts {
        rows.push(ModelPerplexity::new(format!("expert {expert}"), perplexities(&Merged::only(plan, expert)?)?));
    }
    let best = |text: usize| rows.iter().skip(1).map(|row| row.perplexity[text]).fold(f64::INFINITY, f64::min);
    rows.push(ModelPerplexity::new("best expert", (0..texts.len()).map(best).collect()));
    let moe = Merged::with_routers(plan, routers)?;
    rows.push(ModelPerplexity::new("moe", perplexities(&moe)?));
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    progress.finish(Stage::Prompts, &format!("{} models on {tokens} tokens", experts + 2));
    validation.models = rows;
    Ok(validation)
}
