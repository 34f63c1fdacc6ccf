//! `hidden` and `hidden_avg`: the residual stream before each layer of the base, at the last token of each prompt or
//! averaged over its tokens.
//!
//! mergekit's `hidden_avg` includes the padding of the batch in the average; here it is over the prompt's own tokens.

use std::ops::Range;

use super::{
    Routers,
    prompts::PromptSet,
    rows::{assemble, row},
};
use moerge_core::{
    error::Result,
    plan::Routing,
    progress::{Progress, Stage},
    recipe::GateMode,
};
use moerge_infer::decoder::{Activations, Observer, Pass, WeightRounding, Weights, forward, ranges};

pub(super) fn hidden(
    routing: &Routing,
    prompts: &PromptSet,
    weights: &dyn Weights,
    rounding: Option<WeightRounding>,
    progress: &dyn Progress,
) -> Result<Routers> {
    let options = &weights.description().decoder;
    // The residual stream before the last layer is the last one needed.
    let layers = options.layers.len().saturating_sub(1);
    let average = routing.gate_mode == GateMode::HiddenAvg;
    let mut rows = Rows { prompts, tokens: ranges(&prompts.sequences), average, layers: Vec::new() };
    progress.start(Stage::Prompts, layers as u64, 0);
    forward(weights, &prompts.sequences, Pass { layers: Some(layers), rounding, squares: None }, &mut rows, progress)?;
    let tokens: usize = prompts.sequences.iter().map(Vec::len).sum();
    progress.finish(Stage::Prompts, &format!("{} prompts, {tokens} tokens", prompts.sequences.len()));
    assemble(routing, options.hidden, rows.layers, progress)
}

/// Collects the rows of each layer during the pass.
struct Rows<'a> {
    prompts: &'a PromptSet,
    tokens: Vec<Range<usize>>,
    average: bool,
    /// `[layer][expert]`.
    layers: Vec<Vec<Vec<f32>>>,
}

impl Observer for Rows<'_> {
    fn entering(&mut self, _: usize, x: &Activations) -> Result<()> {
        let vector = |index: usize| -> Vec<f64> {
            let all = self.tokens[index].clone();
            let tokens = if self.average { all } else { all.end - 1..all.end };
            let mean =
                |f| x.feature(f)[tokens.clone()].iter().map(|x| f64::from(*x)).sum::<f64>() / tokens.len() as f64;
            (0..x.features()).map(mean).collect()
        };
        let mean = |indices: &[usize]| {
            let mut mean = vec![0.0; x.features()];
            for index in indices {
                mean.iter_mut().zip(vector(*index)).for_each(|(m, x)| *m += x / indices.len() as f64);
            }
            mean
        };
        self.layers.push(self.prompts.experts.iter().map(|expert| row(expert, mean)).collect());
        Ok(())
    }
}
