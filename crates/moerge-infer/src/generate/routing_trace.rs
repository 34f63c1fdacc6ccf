//! Which experts worked on a token.

use crate::decoder::{Observer, Routes};
use moerge_core::{error::Result, plan::Slots};

/// The experts of the last token that went through the model, layer by layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoutingTrace {
    /// Per layer the chosen experts with their weights, the largest first; empty for a dense model.
    pub layers: Vec<Vec<(usize, f32)>>,
}

impl RoutingTrace {
    /// The expert with the largest weight over all layers; `None` for a dense model.
    pub fn main_expert(&self) -> Option<usize> {
        let shares = self.shares();
        let best = |best: Option<(usize, f32)>, this: (usize, f32)| match best {
            Some(best) if best.1 >= this.1 => Some(best),
            _ => Some(this),
        };
        shares.into_iter().enumerate().fold(None, best).map(|(expert, _)| expert)
    }

    /// The same by the experts of the recipe, which `slots` says where to find.
    pub fn by_expert(&self, slots: &Slots) -> Self {
        let layers = self.layers.iter().enumerate();
        Self { layers: layers.map(|(layer, chosen)| slots.choices(layer, chosen)).collect() }
    }

    /// Each expert's share of the weight over all layers.
    pub fn shares(&self) -> Vec<f32> {
        let experts = self.layers.iter().flatten().map(|(expert, _)| expert + 1).max().unwrap_or(0);
        let mut shares = vec![0.0; experts];
        self.layers.iter().flatten().for_each(|(expert, weight)| shares[*expert] += weight);
        let sum: f32 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= sum);
        shares
    }
}

impl Observer for RoutingTrace {
    fn routed(&mut self, layer: usize, routes: &mut Routes) -> Result<()> {
        self.layers.resize(self.layers.len().max(layer + 1), Vec::new());
        self.layers[layer] = routes.experts.last().cloned().unwrap_or_default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_expert_has_the_largest_weight_over_all_layers() {
        let mut trace = RoutingTrace::default();
        assert_eq!(trace.main_expert(), None);
        let layers = [vec![(0, 0.6), (2, 0.4)], vec![(2, 0.9), (1, 0.1)]];
        for (layer, chosen) in layers.into_iter().enumerate() {
            let mut routes = Routes { experts: vec![vec![(1, 1.0)], chosen], shared: Vec::new() };
            trace.routed(layer, &mut routes).unwrap();
        }
        assert_eq!(trace.main_expert(), Some(2));
        assert_eq!(trace.shares(), [0.3, 0.05, 0.65]);
    }
}
