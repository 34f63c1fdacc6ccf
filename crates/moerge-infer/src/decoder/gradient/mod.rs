//! Gradients of the loss with respect to gate vectors, for a model with frozen weights.
//!
//! In each layer a gate blends two FFNs: `base(u) + sigmoid(v . u) (expert(u) - base(u))` (PHATGOOSE, arXiv
//! 2402.05859). The forward pass keeps only the input of each layer ([`layer`]). The backward pass starts at the last
//! layer: it computes the layer again and returns the gradients of its gate and its input. So the weights and
//! activations of only one layer are in memory, whatever the model's size. The loss is the mean cross-entropy of the
//! tokens that count ([`head`]).
//!
//! The derivatives are written by hand, each next to its forward pass. candle's automatic differentiation also computes
//! the gradients of the weights and keeps all activations, and its elementwise operations synchronize with spinning
//! barriers: on examples/tiny it takes 2.7 times the processor time.
//!
//! Sequences are processed in groups of a fixed size, and sums run in the order of the groups, so the result is the
//! same for any number of threads.

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

use super::{embeddings::embeddings, rounding::WeightRounding, weights::Weights};
use group::Group;
use head::Head;
use layer::Layer;
use moerge_core::{
    error::Result,
    progress::{Progress, Stage},
};
use product::Rows;

/// A dense model whose gates blend two FFNs per layer.
pub struct Blend<'a> {
    model: &'a dyn Weights,
    base: &'a dyn Weights,
    rounding: Option<WeightRounding>,
    /// Groups of sequences in parallel.
    at_once: usize,
    /// All layers, if there is room for them.
    kept: Option<Vec<Layer>>,
    head: Head<'a>,
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// Mean cross-entropy in nats of the tokens that count.
    pub loss: f64,
    /// Per layer, the gradient of its gate, `[hidden]`.
    pub gates: Vec<Vec<f32>>,
}

impl<'a> Blend<'a> {
    /// `model` has all weights and the expert's FFN; `base` has the other FFN. If all weights fit into `memory` bytes,
    /// they are read once, otherwise in every step.
    ///
    /// # Errors
    /// A weight is missing or cannot be read, or the run was stopped.
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

    /// Calls `work` with layer `index`, which is read if it is not kept.
    fn with_layer<T>(&self, index: usize, work: impl FnOnce(&Layer) -> Result<T>) -> Result<T> {
        match self.kept.as_ref().and_then(|layers| layers.get(index)) {
            Some(layer) => work(layer),
            None => work(&self.read_layer(index)?),
        }
    }

    /// The loss of `texts` and its gradient with respect to `gates`, `[layers][hidden]`. Reports each layer twice as
    /// [`Stage::Gates`]: once in the forward and once in the backward pass.
    ///
    /// # Errors
    /// A weight is missing or cannot be read, a token has no embedding, or the run was stopped.
    pub fn step(&self, texts: &[Text], gates: &[Vec<f32>], progress: &dyn Progress) -> Result<Gradients> {
        let options = &self.model.description().decoder;
        let groups = Group::of(texts, options)?;
        let enter = |g: &Group| -> Result<Rows> {
            Ok(Rows { columns: options.hidden, values: embeddings(self.model, &g.ids)?.to_tokens() })
        };
        let mut x = groups.iter().map(enter).collect::<Result<Vec<_>>>()?;
        let mut inputs = Vec::with_capacity(gates.len());
        for (index, gate) in gates.iter().enumerate() {
            let next = self.with_layer(index, |layer| {
                self.each(&groups, |group, i| layer.forward(&x[i], group, gate), progress)
            })?;
            inputs.push(std::mem::replace(&mut x, next));
            progress.advance(Stage::Gates, 1);
        }
        let (loss, mut grads) = self.head.loss(options, &x, &groups, progress)?;
        drop(x);
        let mut found = Vec::with_capacity(gates.len());
        for (index, gate) in gates.iter().enumerate().rev() {
            let x = inputs.pop().unwrap_or_default();
            let down = self.with_layer(index, |layer| {
                self.each(&groups, |group, i| layer.backward(&x[i], group, gate, &grads[i]), progress)
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

    /// The results of `work` for all groups, in order; several groups run in parallel.
    fn each<T: Send>(
        &self,
        groups: &[Group],
        work: impl Fn(&Group, usize) -> T + Sync,
        progress: &dyn Progress,
    ) -> Result<Vec<T>> {
        let mut results = Vec::with_capacity(groups.len());
        for first in (0..groups.len()).step_by(self.at_once) {
            progress.check()?;
            let some = &groups[first..(first + self.at_once).min(groups.len())];
            results.par_extend(some.par_iter().enumerate().map(|(i, group)| work(group, first + i)));
        }
        Ok(results)
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
