//! Running a decoder, dense or MoE, in the memory of a few tiles of its weights.
//!
//! [`forward()`] takes prompts through the layers; the weights pass by as one stream ([`stream`]), each read once and
//! multiplied as soon as it is there ([`linear`]). All arithmetic is f32 on the CPU, whatever the weights are stored
//! as, and its result is the same for any number of threads. candle is named only in [`matmul`]
//! and [`quantised`].
//!
//! A [`ResidentModel`] keeps the weights in memory, quantised if wanted, and a [`KvCache`] what it has seen: it runs
//! the same layers, token after token. What the layers need of either is [`matrices`].
//!
//! A [`Blend`] is a model between two FFNs, and says how its loss changes with the gates that blend them.

mod activations;
mod attention;
mod batch;
mod checkpoint_weights;
mod decode;
mod dot;
mod experts;
mod ffn;
mod forward;
mod gradient;
mod kv_cache;
mod linear;
mod log_probabilities;
mod matmul;
mod matrices;
mod norm;
mod pass_memory;
mod products;
mod q8_0;
mod quantised;
mod resident;
mod rounding;
mod stream;
mod weights;

pub use activations::Activations;
pub use batch::ranges;
pub use checkpoint_weights::CheckpointWeights;
pub use experts::Routes;
pub use forward::{Observer, embeddings, forward, logits};
pub use gradient::{Blend, GradientMemory, Gradients, Text, gradient_memory};
pub use kv_cache::KvCache;
pub use log_probabilities::log_probabilities;
pub use matmul::Operand;
pub use pass_memory::{generation_memory, pass_memory};
pub use quantised::Quantisation;
pub use resident::ResidentModel;
pub use rounding::WeightRounding;
pub use weights::Weights;

use std::sync::{Mutex, PoisonError};

use moerge_core::error::{Error, Result};

/// Keeps the first error of several threads.
fn keep_first(failure: &Mutex<Option<Error>>, error: Error) {
    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}

/// The error kept, if any.
fn first_failure(failure: Mutex<Option<Error>>) -> Result<()> {
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
