//! How much of the routers' weight each expert of an MoE gets.

use moerge_core::{error::Result, plan::Slots};
use moerge_infer::decoder::{Observer, Routes};

/// Adds up the weights of experts over all layers of several passes.
pub(crate) struct ExpertUse<'a> {
    /// `None` of a dense model, of which nothing is counted.
    slots: Option<&'a Slots>,
    weights: Vec<f64>,
}

impl<'a> ExpertUse<'a> {
    /// Nothing counted yet.
    pub(crate) fn new(slots: Option<&'a Slots>) -> Self {
        Self { slots, weights: vec![0.0; slots.map_or(0, Slots::experts)] }
    }

    /// Each expert's share of the weight; `None` if no token was routed.
    pub(crate) fn shares(&self) -> Option<Vec<f64>> {
        let sum: f64 = self.weights.iter().sum();
        (sum > 0.0).then(|| self.weights.iter().map(|weight| weight / sum).collect())
    }
}

impl Observer for ExpertUse<'_> {
    fn routed(&mut self, layer: usize, routes: &mut Routes) -> Result<()> {
        let Some(slots) = self.slots else { return Ok(()) };
        for (expert, weight) in routes.experts.iter().flat_map(|chosen| slots.choices(layer, chosen)) {
            self.weights[expert] += f64::from(weight);
        }
        Ok(())
    }
}
