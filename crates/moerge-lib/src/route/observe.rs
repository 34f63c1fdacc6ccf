//! Counts the routing of tokens while the layers run.

use super::{SampleToken, TextLayer, TextReport, entropy, texts::Tokenized};
use moerge_core::{error::Result, plan::Slots};
use moerge_infer::decoder::{Activations, Observer, Routes};

/// Counts the routing of one text over several passes.
pub(super) struct RoutingCounter<'a> {
    gates: &'a [Vec<f32>],
    slots: &'a Slots,
    layers: Vec<Counts>,
    sample: usize,
}

#[derive(Clone)]
struct Counts {
    tokens: usize,
    first: Vec<usize>,
    chosen: Vec<usize>,
    weight: Vec<f64>,
    entropy: f64,
    /// First choices of the first tokens.
    sample: Vec<usize>,
}

impl<'a> RoutingCounter<'a> {
    /// Empty counts. The choices of the first `sample` tokens will be kept.
    pub fn new(gates: &'a [Vec<f32>], slots: &'a Slots, sample: usize) -> Self {
        let experts = slots.experts();
        let none = Counts {
            tokens: 0,
            first: vec![0; experts],
            chosen: vec![0; experts],
            weight: vec![0.0; experts],
            entropy: 0.0,
            sample: Vec::new(),
        };
        Self { gates, slots, layers: vec![none; gates.len()], sample }
    }

    /// The routing of `text`.
    pub fn report(self, text: &Tokenized) -> TextReport {
        let shares = |counts: &Counts| {
            let tokens = counts.tokens.max(1) as f64;
            let weight = counts.weight.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            TextLayer {
                first_choice: counts.first.iter().map(|n| *n as f64 / tokens).collect(),
                chosen: counts.chosen.iter().map(|n| *n as f64 / tokens).collect(),
                weighted: counts.weight.iter().map(|w| w / weight).collect(),
                entropy: counts.entropy / tokens,
            }
        };
        let kept = self.layers.first().map_or(0, |layer| layer.sample.len());
        let token = |index: usize| SampleToken {
            text: text.pieces.get(index).cloned().unwrap_or_default(),
            experts: self.layers.iter().map(|layer| layer.sample[index]).collect(),
        };
        TextReport {
            name: text.name.clone(),
            expert: text.expert,
            tokens: text.tokens(),
            layers: self.layers.iter().map(shares).collect(),
            sample: (0..kept).map(token).collect(),
        }
    }
}

impl Observer for RoutingCounter<'_> {
    fn router_input(&mut self, layer: usize, u: &Activations) -> Result<()> {
        let (Some(gate), Some(counts)) = (self.gates.get(layer), self.layers.get_mut(layer)) else { return Ok(()) };
        // [slot][token], in the layout of the activations.
        let mut scores = vec![vec![0.0f32; u.tokens()]; self.slots.in_layer(layer).len()];
        let members = self.slots.members(layer);
        for (scores, row) in scores.iter_mut().zip(gate.chunks_exact(u.features().max(1))) {
            for (feature, weight) in row.iter().enumerate() {
                scores.iter_mut().zip(u.feature(feature)).for_each(|(score, u)| *score += weight * u);
            }
        }
        for token in 0..u.tokens() {
            let of_token = || scores.iter().map(|scores| f64::from(scores[token]));
            let largest = of_token().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = of_token().map(|score| (score - largest).exp()).sum();
            let of_slots: Vec<f64> = of_token().map(|score| (score - largest).exp() / sum).collect();
            let of_experts = self.slots.by_expert(layer, &of_slots);
            counts.entropy += entropy(&members.iter().map(|expert| of_experts[*expert]).collect::<Vec<_>>());
        }
        Ok(())
    }

    fn routed(&mut self, layer: usize, routes: &mut Routes) -> Result<()> {
        let Some(counts) = self.layers.get_mut(layer) else { return Ok(()) };
        counts.tokens += routes.experts.len();
        for chosen in &routes.experts {
            let choices = self.slots.choices(layer, chosen);
            for (expert, weight) in &choices {
                counts.chosen[*expert] += 1;
                counts.weight[*expert] += f64::from(*weight);
            }
            if let Some((expert, _)) = choices.first() {
                counts.first[*expert] += 1;
                if counts.sample.len() < self.sample {
                    counts.sample.push(*expert);
                }
            }
        }
        Ok(())
    }
}
