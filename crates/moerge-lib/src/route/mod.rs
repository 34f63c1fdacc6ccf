//! Reports where a Mixture of Experts sends tokens: for each text and layer, which experts get them, and how similar
//! the gates are.
//!
//! [`report`] runs the model; [`html::page`] renders the report as one HTML file.

mod follow;
mod gates;
pub mod html;
mod observe;
mod texts;

use serde::Serialize;

pub use gates::cosines;
pub use texts::{RoutedText, balanced_load, expert_names, expert_slots, plain_slots, recipe_texts};

use crate::{following::Following, routers::Balance};
use moerge_core::{
    error::{Error, Result},
    plan::Slots,
    progress::{Progress, Stage},
};
use moerge_infer::{
    model::Model,
    runner::{Placement, Runner},
};
use observe::RoutingCounter;

/// A model's routing on some texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteReport {
    /// The model, as the user named it.
    pub model: String,
    /// Names of the experts.
    pub experts: Vec<String>,
    /// Experts per token.
    pub experts_per_token: usize,
    /// Layer by layer, over all texts.
    pub layers: Vec<LayerReport>,
    /// Text by text.
    pub texts: Vec<TextReport>,
    /// How often the own expert of a token comes first in texts that begin or change their subject, if the experts of
    /// several texts are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub following: Option<Following>,
    /// How balancing changed the loads, if the routers were balanced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<BalancedLoad>,
}

/// Loads on the text that the routers were fitted to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BalancedLoad {
    /// The cost of balancing, and the loads before it.
    #[serde(flatten)]
    pub balance: Balance,
    /// Per layer, the fraction of all choices that each expert gets after balancing.
    pub load_after: Vec<Vec<f64>>,
}

/// A layer's gates and its routing over all texts. Vectors have one entry per expert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReport {
    /// Cosine of each pair of gate rows `[experts][experts]`.
    pub gate_cosines: Vec<Vec<f64>>,
    /// How evenly the texts, weighted equally, load the experts: the entropy of the weighted shares divided by its
    /// maximum. 1 is even, 0 is all to one expert.
    pub balance: f64,
    /// How undecided the router is, on average: the entropy of its softmax divided by its maximum. 1 is undecided.
    pub entropy: f64,
    /// Fraction of tokens whose first choice is the text's own expert, texts weighted equally; `None` if no text's
    /// expert is known.
    pub accuracy: Option<f64>,
    /// Experts that no token chose.
    pub dead: Vec<usize>,
    /// Experts that are absent from the layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<usize>,
}

/// The routing of one text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextReport {
    /// The text's name.
    pub name: String,
    /// The expert that it is meant for, if known.
    pub expert: Option<usize>,
    /// Number of tokens measured.
    pub tokens: usize,
    /// Layer by layer.
    pub layers: Vec<TextLayer>,
    /// The first tokens, with the experts they chose.
    pub sample: Vec<SampleToken>,
}

/// The routing of one text in one layer. Vectors have one entry per expert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextLayer {
    /// Fraction of tokens whose first choice it is.
    pub first_choice: Vec<f64>,
    /// Fraction of tokens that chose it at all.
    pub chosen: Vec<f64>,
    /// Fraction of all weight.
    pub weighted: Vec<f64>,
    /// Mean entropy of the router's softmax, divided by its maximum.
    pub entropy: f64,
}

/// A token of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SampleToken {
    /// Its piece of the text; a document after the first begins with a line break.
    pub text: String,
    /// Its first choice, layer by layer.
    pub experts: Vec<usize>,
}

/// Limits of what is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Tokens per sequence; by default the model's context, at most 2048.
    pub context: Option<usize>,
    /// Maximum number of tokens per text.
    pub tokens: usize,
    /// Number of tokens per text kept for display.
    pub sample: usize,
}

/// Runs `texts` through `model` and reports where their tokens go. `experts` are names; an expert without one is called
/// by its number. `slots` maps experts to the slots of each layer.
///
/// # Errors
/// The model is dense, a text has no tokens, the weights cannot be read, or the user stops the run.
pub fn report(
    model: &Model,
    (experts, slots): (&[String], &Slots),
    texts: &[RoutedText],
    extent: Extent,
    placement: Placement,
    progress: &dyn Progress,
) -> Result<RouteReport> {
    let Some(top_k) = model.description().decoder.experts().map(|spec| spec.top_k) else {
        return Err(Error::input(format!("{} is a dense model: it has no routers", model.reference))
            .hint("only a Mixture of Experts has them"));
    };
    let name = |expert: usize| experts.get(expert).cloned().unwrap_or_else(|| format!("expert {expert}"));
    let context = extent.context.unwrap_or(model.config.max_positions.min(2048)).max(1);
    let tokenized = |text| texts::tokenize(text, model, context, extent.tokens);
    let texts: Vec<texts::Tokenized> = texts.iter().map(tokenized).collect::<Result<_>>()?;

    let runner = Runner::new(model.weights()?, placement, progress)?;
    let gates = gates::read(model)?;
    let spliced = follow::SplicedTexts::new(&texts);
    let tokens = texts.iter().map(texts::Tokenized::tokens).chain(spliced.iter().map(follow::SplicedTexts::tokens));
    progress.start(Stage::Score, tokens.sum::<usize>() as u64, 0);
    let mut reports = Vec::new();
    for text in &texts {
        let mut watch = RoutingCounter::new(&gates, slots, extent.sample);
        for pass in text.passes(runner.pass_tokens()) {
            runner.forward(pass, &mut watch, progress)?;
            progress.advance(Stage::Score, pass.iter().map(|s| s.len() as u64).sum());
        }
        reports.push(watch.report(text));
    }
    let following = spliced.map(|spliced| spliced.follow(&runner, slots, progress)).transpose()?;
    progress.finish(Stage::Score, "");
    let layers = gates.iter().enumerate().map(|(layer, gate)| layer_report(layer, gate, slots, &reports)).collect();
    Ok(RouteReport {
        model: model.reference.clone(),
        experts: (0..slots.experts()).map(name).collect(),
        experts_per_token: top_k,
        layers,
        texts: reports,
        following,
        balance: None,
    })
}

fn layer_report(layer: usize, gate: &[f32], slots: &Slots, texts: &[TextReport]) -> LayerReport {
    let of = || texts.iter().map(|text| &text.layers[layer]);
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let members = slots.members(layer);
    let shares: Vec<f64> = members.iter().map(|e| mean(of().map(|l| l.weighted[*e]).collect())).collect();
    let own =
        |text: &TextReport| text.expert.filter(|e| members.contains(e)).map(|e| text.layers[layer].first_choice[e]);
    let known: Vec<f64> = texts.iter().filter_map(own).collect();
    LayerReport {
        gate_cosines: gates::cosines(&gates::by_expert(gate, slots, layer), slots.experts()),
        balance: entropy(&shares),
        entropy: mean(of().map(|l| l.entropy).collect()),
        accuracy: (!known.is_empty()).then(|| mean(known)),
        dead: members.iter().copied().filter(|e| of().all(|l| l.chosen[*e] == 0.0)).collect(),
        absent: (0..slots.experts()).filter(|e| !members.contains(e)).collect(),
    }
}

/// Entropy of a distribution divided by its maximum; 1 for a single expert.
fn entropy(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
    if shares.len() > 1 { sum / (shares.len() as f64).ln() } else { 1.0 }
}

/// The mean; `None` for no values.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

impl TextReport {
    /// The fraction of the weight that `expert` gets over all layers.
    pub fn weighted(&self, expert: usize) -> f64 {
        self.layers.iter().map(|layer| layer.weighted[expert]).sum::<f64>() / self.layers.len().max(1) as f64
    }
}

impl RouteReport {
    /// Fraction of tokens whose first choice is the text's own expert, averaged over texts and layers.
    pub fn accuracy(&self) -> Option<f64> {
        mean(self.layers.iter().filter_map(|layer| layer.accuracy))
    }

    /// Fraction of the tokens of `text` whose first choice is its own expert, over the layers that contain it.
    pub fn accuracy_of(&self, text: &TextReport) -> Option<f64> {
        let expert = text.expert?;
        let layers = self.layers.iter().zip(&text.layers).filter(|(layer, _)| !layer.absent.contains(&expert));
        mean(layers.map(|(_, routed)| routed.first_choice[expert]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_one_where_all_is_even_and_zero_where_one_has_all() {
        assert!((entropy(&[0.25; 4]) - 1.0).abs() < 1e-12);
        assert_eq!(entropy(&[0.0, 1.0, 0.0]), 0.0);
        assert_eq!(entropy(&[1.0]), 1.0);
    }

    #[test]
    fn layers_count_texts_alike_and_name_dead_experts() {
        let text = |expert, first: [f64; 3]| TextReport {
            name: String::new(),
            expert,
            tokens: 10,
            layers: vec![TextLayer {
                first_choice: first.to_vec(),
                chosen: first.to_vec(),
                weighted: first.to_vec(),
                entropy: 0.5,
            }],
            sample: Vec::new(),
        };
        let texts = [text(Some(0), [0.9, 0.1, 0.0]), text(Some(1), [0.5, 0.5, 0.0]), text(None, [1.0, 0.0, 0.0])];
        let found = layer_report(0, &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], &Slots::all(3, 1), &texts);
        assert!((found.accuracy.unwrap() - 0.7).abs() < 1e-12, "{found:?}");
        assert_eq!(found.dead, [2]);
        assert_eq!(found.gate_cosines[0][1], 0.0);
        assert!((found.gate_cosines[0][2] - 0.5f64.sqrt()).abs() < 1e-6);
    }
}
