//! `cheap_embed`: the sum of the embeddings of all prompt tokens, as the row of every layer. Only these embeddings are
//! read.

use super::{
    Routers,
    prompts::PromptSet,
    rows::{assemble, normalise, row},
};
use moerge_core::{error::Result, plan::Routing, progress::Progress};
use moerge_infer::decoder::{Weights, embeddings};

pub(super) fn cheap_embed(
    routing: &Routing,
    prompts: &PromptSet,
    weights: &dyn Weights,
    progress: &dyn Progress,
) -> Result<Routers> {
    let options = &weights.description().decoder;
    let mut sums: Vec<Vec<f64>> = Vec::new();
    for sequence in &prompts.sequences {
        progress.check()?;
        let x = embeddings(weights, sequence)?;
        sums.push((0..x.features()).map(|f| x.feature(f).iter().map(|x| f64::from(*x)).sum()).collect());
    }
    let combine = |indices: &[usize]| {
        let mut sum = vec![0.0; options.hidden];
        for index in indices {
            sum.iter_mut().zip(&sums[*index]).for_each(|(x, y)| *x += y);
        }
        normalise(&mut sum);
        sum
    };
    let rows: Vec<Vec<f32>> = prompts.experts.iter().map(|expert| row(expert, combine)).collect();
    assemble(routing, options.hidden, vec![rows; options.layers.len()], progress)
}
