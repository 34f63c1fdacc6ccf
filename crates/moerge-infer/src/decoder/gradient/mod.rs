//! Gradients of gates: by how much the loss of a text changes with the gate vectors of a model, all of whose weights stay
//! as they are.
//!
//! The model is dense but for its FFN, which a gate per layer blends of two: `base(u) + sigmoid(v . u) (expert(u) -
//! base(u))` (PHATGOOSE, arXiv 2402.05859). A step runs forward and keeps what enters each layer, nothing within
//! ([`layer`]); from the last layer down it computes the layer again and goes back through it, for the gradient of its gate
//! and of what entered it. So one layer's weights and inner values are alive at a time, whatever the model's
//! size. The loss is the mean cross entropy of the tokens that count ([`head`]).
//!
//! The derivatives are written out, each beside what it is of. candle has them, too, but its differentiation computes the
//! gradients of weights that nobody wants, keeps everything, and its elementwise operations meet at barriers that spin,
//! in one pool for the whole process: on examples/tiny it takes 2.7 times the processor time.
//!
//! Sequences go in groups of a fixed size, and sums run in the order of the groups: the result is the same for any number
//! of threads.

mod attention;
mod ffn;
mod group;
mod head;
mod layer;
mod memory;
mod product;
mod rms_norm;

use rayon::prelude::*;

pub use group::Text;
pub use memory::{GradientMemory, gradient_memory};

use super::{forward::embeddings, rounding::WeightRounding, weights::Weights};
use group::Group;
use head::Head;
use layer::Layer;
use moerge_core::{
    error::Result,
    progress::{Progress, Stage},
};
use product::Rows;

/// A dense model between two FFNs.
pub struct Blend<'a> {
    model: &'a dyn Weights,
    base: &'a dyn Weights,
    rounding: Option<WeightRounding>,
    /// Groups of sequences that are computed at once.
    at_once: usize,
    /// All layers, where there is room for them.
    kept: Option<Vec<Layer>>,
    head: Head<'a>,
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// Mean cross entropy of the tokens that count, in nats.
    pub loss: f64,
    /// Per layer the gradient `[hidden]` of its gate.
    pub gates: Vec<Vec<f32>>,
}

impl<'a> Blend<'a> {
    /// `model` gives all weights and the expert's FFN, `base` the other FFN. Within `memory` bytes: where all weights have
    /// room, they are read once, and otherwise anew in every step.
    pub fn new(
        model: &'a dyn Weights,
        base: &'a dyn Weights,
        rounding: Option<WeightRounding>,
        need: &GradientMemory,
        memory: u64,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let keeps = need.keeping() <= memory;
        let (at_once, head) = (need.at_once(keeps, memory), Head::new(model, keeps)?);
        let mut blend = Self { model, base, rounding, at_once, kept: None, head };
        if keeps {
            let layers = model.description().decoder.layers.len();
            let layer = |layer| progress.check().and_then(|()| blend.read_layer(layer));
            blend.kept = Some((0..layers).map(layer).collect::<Result<_>>()?);
        }
        Ok(blend)
    }

    fn read_layer(&self, layer: usize) -> Result<Layer> {
        Layer::read(self.model, self.base, layer, self.rounding)
    }

    /// Calls `work` with the weights of layer `index`.
    fn with_layer<T>(&self, index: usize, work: impl FnOnce(&Layer) -> Result<T>) -> Result<T> {
        match self.kept.as_ref().and_then(|layers| layers.get(index)) {
            Some(layer) => work(layer),
            None => work(&self.read_layer(index)?),
        }
    }

    /// The loss of `texts` and its gradient by `gates`, `[layers][hidden]`. Reports every layer as [`Stage::Gates`], once
    /// on the way up and once on the way down.
    pub fn step(&self, texts: &[Text], gates: &[Vec<f32>], progress: &dyn Progress) -> Result<Gradients> {
        let options = &self.model.description().decoder;
        let groups = Group::of(texts, options)?;
        let enter = |g: &Group| -> Result<Rows> {
            Ok(Rows { columns: options.hidden, values: embeddings(self.model, &g.ids)?.to_tokens() })
        };
        let mut x = groups.iter().map(enter).collect::<Result<Vec<_>>>()?;
        let mut inputs = Vec::with_capacity(gates.len());
        for (index, gate) in gates.iter().enumerate() {
            let next =
                self.with_layer(index, |layer| self.each(&groups, |group, i| layer.up(&x[i], group, gate), progress))?;
            inputs.push(std::mem::replace(&mut x, next));
            progress.advance(Stage::Gates, 1);
        }
        let (loss, mut grads) = self.head.loss(options, &x, &groups, progress)?;
        drop(x);
        let mut found = Vec::with_capacity(gates.len());
        for (index, gate) in gates.iter().enumerate().rev() {
            let x = inputs.pop().unwrap_or_default();
            let down = self.with_layer(index, |layer| {
                self.each(&groups, |group, i| layer.down(&x[i], group, gate, &grads[i]), progress)
            })?;
            let mut sum = vec![0.0f64; options.hidden];
            grads = Vec::with_capacity(down.len());
            for (below, own) in down {
                sum.iter_mut().zip(own).for_each(|(sum, x)| *sum += f64::from(x));
                grads.push(below);
            }
            found.push(sum.into_iter().map(|x| x as f32).collect());
            progress.advance(Stage::Gates, 1);
        }
        found.reverse();
        Ok(Gradients { loss, gates: found })
    }

    /// `work` of every group, some at once; in order.
    fn each<T: Send>(
        &self,
        groups: &[Group],
        work: impl Fn(&Group, usize) -> Result<T> + Sync,
        progress: &dyn Progress,
    ) -> Result<Vec<T>> {
        let mut results = Vec::with_capacity(groups.len());
        for first in (0..groups.len()).step_by(self.at_once) {
            progress.check()?;
            let some = &groups[first..(first + self.at_once).min(groups.len())];
            let part = some.par_iter().enumerate().map(|(i, group)| work(group, first + i));
            results.extend(part.collect::<Result<Vec<T>>>()?);
        }
        Ok(results)
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
