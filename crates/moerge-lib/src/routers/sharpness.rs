//! Chooses how sharply routers weight the experts of a token.
//!
//! The temperature of the fit makes the softmax the probability that an expert is the token's own. If a token has
//! several experts, these probabilities need not be the best weights of their outputs: if the experts' texts overlap
//! much, they are too soft. So some of the text goes through the fitting pass a second time, weighted more sharply, and
//! the factor with the lower loss is used. The held-out fifth would be too little to distinguish differences of half a
//! percent, so the text may be any.

use serde::{Deserialize, Serialize};

use super::{
    calibration::Calibration,
    losses::{losses_of, perplexity},
};
use moerge_core::{error::Result, plan::MoePlan, progress::Progress};
use moerge_infer::decoder::{Activations, Routes, Weights, ranges};

/// The factor that is tried besides 1.
const SHARPER: f64 = 2.0;

/// Maximum number of tokens of the text, approximately.
const TOKENS: usize = 1024;

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

/// The sequences of a calibration that go through the fitting pass twice.
pub(super) struct Copies {
    /// Their numbers.
    copied: Vec<usize>,
    /// The column of the first token of the copies.
    first: usize,
}

impl Copies {
    /// Copies of some text of `calibration`; of none if sharpness does not matter.
    pub fn new(plan: &MoePlan, calibration: &Calibration) -> Self {
        let copied = if Sharpness::matters(plan) { calibration.some_of_experts(TOKENS) } else { Vec::new() };
        Self { copied, first: calibration.tokens() }
    }

    /// The sequences of the pass: those of `calibration`, then the copies.
    pub fn sequences(&self, calibration: &Calibration) -> Vec<Vec<u32>> {
        let copies = self.copied.iter().map(|s| calibration.sequences[*s].clone());
        calibration.sequences.iter().cloned().chain(copies).collect()
    }

    /// Weights the experts of the copies' tokens more sharply.
    pub fn sharpen(&self, routes: &mut Routes) {
        for choices in routes.experts.iter_mut().skip(self.first) {
            // exp(s x) = exp(x)^s; the constant factor cancels when the sum is normalized to 1.
            choices.iter_mut().for_each(|(_, weight)| *weight = weight.powf(SHARPER as f32));
            let sum: f32 = choices.iter().map(|(_, weight)| weight).sum();
            choices.iter_mut().for_each(|(_, weight)| *weight /= sum);
        }
    }

    /// Compares the loss on the copies with that on the originals; `x` is what left the last layer.
    pub fn compare(
        &self,
        weights: &dyn Weights,
        calibration: &Calibration,
        x: &Activations,
        progress: &dyn Progress,
    ) -> Result<Option<Sharpness>> {
        if self.copied.is_empty() {
            return Ok(None);
        }
        let sequences = self.sequences(calibration);
        let ranges = ranges(&sequences);
        let copies = calibration.sequences.len()..sequences.len();
        let mut tried = Vec::new();
        for (factor, numbers) in [(1.0, self.copied.clone()), (SHARPER, copies.collect())] {
            let next = |s: &usize| ranges[*s].clone().zip(sequences[*s].iter().skip(1).copied());
            let wanted: Vec<(usize, u32)> = numbers.iter().flat_map(next).collect();
            tried.push(TriedFactor { factor, perplexity: perplexity(&losses_of(weights, x, &wanted, progress)?) });
        }
        // The first of equal ones, so rows stay unchanged if nothing distinguishes the factors.
        let best =
            tried.iter().copied().reduce(|best, next| if next.perplexity < best.perplexity { next } else { best });
        Ok(Some(Sharpness { factor: best.map_or(1.0, |best| best.factor), tried }))
    }

    /// The lengths of the sequences of a pass over text of these `lengths`, at most.
    pub fn lengths(plan: &MoePlan, mut lengths: Vec<usize>) -> Vec<usize> {
        if Sharpness::matters(plan) {
            let mut tokens = 0;
            let copies: Vec<usize> = lengths
                .iter()
                .copied()
                .take_while(|length| {
                    let room = tokens < TOKENS;
                    tokens += length;
                    room
                })
                .collect();
            lengths.extend(copies);
        }
        lengths
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use moerge_checkpoint::{LocalStorage, ReadStorage};

    use super::*;
    use crate::{
        merge::{MergeOptions, prepare},
        routers::{ExpertTokens, Merged, fit_routers, losses::next_token_losses},
    };
    use moerge_core::{progress::Silent, recipe::Recipe};
    use moerge_infer::tokenizer::Tokenizer;

    /// The copies in the fitting pass give the same perplexities as passes with multiplied rows, and the best factor is chosen.
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
        let plan_2 = plan(2);
        let spliced = calibration.with_spliced(plan_2.routing.fit.tokens, plan_2.output.seed);
        let texts: Vec<Vec<u32>> =
            spliced.some_of_experts(TOKENS).into_iter().map(|s| spliced.sequences[s].clone()).collect();
        assert!(texts.len() > 5);

        let (routers, report) = fit_routers(&plan_2, &calibration, None, None, &Silent).unwrap();
        let found = report.sharpness.unwrap();
        for tried in &found.tried {
            let mut scaled = routers.clone();
            scaled.gates.iter_mut().flatten().for_each(|w| *w *= (tried.factor / found.factor) as f32);
            let moe = Merged::with_routers(&plan_2, &scaled).unwrap();
            let losses = next_token_losses(&moe, &texts, None, &mut (), &Silent).unwrap();
            assert!((perplexity(&losses) / tried.perplexity - 1.0).abs() < 1e-4, "{tried:?}");
            assert!(found.tried.iter().all(|t| t.factor != found.factor || t.perplexity <= tried.perplexity));
        }
        assert!(found.tried.windows(2).any(|pair| pair[0].perplexity != pair[1].perplexity));
        // With one expert per token, its weight is always 1.
        assert_eq!(fit_routers(&plan(1), &calibration, None, None, &Silent).unwrap().1.sharpness, None);
    }
}
