//! Chooses how sharply routers weight the experts of a token.
//!
//! The temperature of the fit makes the softmax the probability that an expert is the token's own. If a token has
//! several experts, these probabilities need not be the best weights of their outputs: if the experts' texts overlap
//! much, they are too soft. So the MoE runs on the experts' text with the fitted weights and with sharper ones, and the
//! factor with the lowest loss is used. One pass over the weights measures all factors, each on its own copy of the
//! text. All text is used: the held-out fifth is too little to distinguish differences of half a percent.

use serde::{Deserialize, Serialize};

use super::{
    Routers,
    calibration::Calibration,
    losses::{next_token_losses, perplexity},
    merged::Merged,
};
use moerge_core::{
    error::Result,
    plan::MoePlan,
    progress::{Progress, Stage},
};
use moerge_infer::decoder::{Observer, Routes, WeightRounding};

/// The factors that are tried.
const FACTORS: [f64; 2] = [1.0, 2.0];

/// Maximum number of tokens, approximately.
const TOKENS: usize = 4096;

/// The lengths of the sequences in the longest pass over text of these `lengths`: all of it in the fit, or a subset of
/// it per factor.
pub fn pass_lengths(plan: &MoePlan, lengths: &[usize]) -> Vec<usize> {
    let all = lengths.iter().sum::<usize>();
    let (copies, most) =
        if Sharpness::matters(plan) { (FACTORS.len(), all.max(FACTORS.len() * TOKENS)) } else { (1, all) };
    let mut tokens = 0;
    let fits = |length: &usize| {
        tokens += length;
        tokens <= most
    };
    lengths.iter().copied().cycle().take(copies * lengths.len()).take_while(fits).collect()
}

/// The factor on the rows of all layers, and the reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sharpness {
    /// The factor with the lowest perplexity.
    pub factor: f64,
    /// The perplexity on the experts' text with each factor.
    pub tried: Vec<TriedFactor>,
}

/// A factor that was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TriedFactor {
    /// The factor on the rows.
    pub factor: f64,
    /// On the experts' text.
    pub perplexity: f64,
}

impl Sharpness {
    /// Whether sharpness matters: the weight of a single expert is always 1, and sharpening only makes sense if the
    /// weights are normalized over the chosen experts.
    pub(super) fn matters(plan: &MoePlan) -> bool {
        plan.shape.top_k > 1 && plan.description.decoder.experts().is_some_and(|spec| spec.renormalise)
    }
}

/// Multiplies the rows of `routers` by the factor with the lowest loss on the experts' text in `calibration`.
pub fn sharpen(
    plan: &MoePlan,
    routers: &mut Routers,
    calibration: &Calibration,
    rounding: Option<WeightRounding>,
    progress: &dyn Progress,
) -> Result<Option<Sharpness>> {
    if !Sharpness::matters(plan) {
        return Ok(None);
    }
    let sequences = calibration.texts_of_experts(TOKENS);
    let tried = try_factors(plan, routers, &sequences, rounding, progress)?;
    // The first of equal ones, so rows stay unchanged if nothing distinguishes the factors.
    let best = tried.iter().copied().reduce(|best, next| if next.perplexity < best.perplexity { next } else { best });
    let factor = best.map_or(1.0, |best| best.factor);
    routers.gates.iter_mut().flatten().for_each(|w| *w *= factor as f32);
    Ok(Some(Sharpness { factor, tried }))
}

/// The MoE's perplexity on `sequences` with each factor.
fn try_factors(
    plan: &MoePlan,
    routers: &Routers,
    sequences: &[Vec<u32>],
    rounding: Option<WeightRounding>,
    progress: &dyn Progress,
) -> Result<Vec<TriedFactor>> {
    let moe = Merged::with_routers(plan, routers)?;
    let copies = vec![sequences; FACTORS.len()].concat();
    let tokens = sequences.iter().map(Vec::len).sum::<usize>();
    progress.start(Stage::Prompts, plan.description.decoder.layers.len() as u64, 0);
    let losses = next_token_losses(&moe, &copies, rounding, &mut Sharpen { tokens }, progress)?;
    progress.finish(Stage::Prompts, &format!("{} ways to weigh experts, {tokens} tokens", FACTORS.len()));
    let copies = losses.chunks(tokens.max(1));
    Ok(FACTORS
        .into_iter()
        .zip(copies)
        .map(|(factor, losses)| TriedFactor { factor, perplexity: perplexity(losses) })
        .collect())
}

/// Routes each copy of the text with the weights of its factor.
struct Sharpen {
    /// Tokens per copy.
    tokens: usize,
}

impl Observer for Sharpen {
    fn routed(&mut self, _layer: usize, routes: &mut Routes) -> Result<()> {
        for (copy, factor) in routes.experts.chunks_mut(self.tokens.max(1)).zip(FACTORS) {
            for choices in copy {
                // exp(s x) = exp(x)^s; the constant factor cancels when the sum is normalized to 1.
                choices.iter_mut().for_each(|(_, weight)| *weight = weight.powf(factor as f32));
                let sum: f32 = choices.iter().map(|(_, weight)| weight).sum();
                choices.iter_mut().for_each(|(_, weight)| *weight /= sum);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use moerge_checkpoint::{LocalStorage, ReadStorage};

    use super::*;
    use crate::{
        merge::{MergeOptions, prepare},
        routers::{ExpertTokens, fit_routers},
    };
    use moerge_core::{progress::Silent, recipe::Recipe};
    use moerge_infer::tokenizer::Tokenizer;

    /// One pass over copies gives the same perplexities as passes with multiplied rows, and the best factor is chosen.
    #[test]
    fn the_factor_with_the_least_perplexity_is_taken() {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tiny");
        let recipe = |k: usize| {
            let text = format!(
                "base_model: base\ngate_mode: calibrated\nexperts_per_token: {k}\nexperts:\n\
                 - {{source_model: code, positive_prompts: [code]}}\n- {{source_model: math, positive_prompts: [math]}}\n\
                 - {{source_model: story, positive_prompts: [story]}}\n"
            );
            Recipe::parse("moe.yml", &text).unwrap()
        };
        let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
        let plan = |k| prepare(&storage, recipe(k), &tiny, &MergeOptions::default()).unwrap().plan;
        let tokenizer = Tokenizer::open(&LocalStorage, &tiny.join("base")).unwrap();
        let text = |name: &str| {
            let text = std::fs::read_to_string(tiny.join(format!("calibration/{name}.txt"))).unwrap();
            let positive = tokenizer.encode_windows(&text, 100).unwrap().into_iter().take(2).collect();
            ExpertTokens { positive, negative: Vec::new() }
        };
        let calibration = Calibration::new(&["code", "math", "story"].map(text), None);
        let texts = calibration.texts_of_experts(TOKENS);
        assert_eq!(texts.len(), 6);

        let plan_2 = plan(2);
        let (mut routers, _) = fit_routers(&plan_2, &calibration, None, None, &Silent).unwrap();
        let fitted = routers.clone();
        let found = sharpen(&plan_2, &mut routers, &calibration, None, &Silent).unwrap().unwrap();
        for tried in &found.tried {
            let mut scaled = fitted.clone();
            scaled.gates.iter_mut().flatten().for_each(|w| *w *= tried.factor as f32);
            let moe = Merged::with_routers(&plan_2, &scaled).unwrap();
            let losses = next_token_losses(&moe, &texts, None, &mut (), &Silent).unwrap();
            assert!((perplexity(&losses) / tried.perplexity - 1.0).abs() < 1e-4, "{tried:?}");
            assert!(found.tried.iter().all(|t| t.factor != found.factor || t.perplexity <= tried.perplexity));
        }
        assert!(found.tried.windows(2).any(|pair| pair[0].perplexity != pair[1].perplexity));
        let factor = found.factor as f32;
        assert!(routers.gates.iter().flatten().zip(fitted.gates.iter().flatten()).all(|(a, b)| *a == b * factor));

        // With one expert per token, its weight is always 1.
        assert_eq!(sharpen(&plan(1), &mut routers, &calibration, None, &Silent).unwrap(), None);
    }
}
