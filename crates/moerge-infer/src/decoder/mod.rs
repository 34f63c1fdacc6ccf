//! Decoders, dense or MoE, run with streamed weights or with weights in memory.
//!
//! [`forward()`] runs prompts through the layers in the memory of a few tiles: the weights are one stream ([`stream`]),
//! each read once and multiplied as soon as it arrives ([`linear`]). All arithmetic is f32 on the CPU, whatever the
//! stored type, and the result is the same for any number of threads ([`matmul()`]).
//!
//! A [`ResidentModel`] holds the weights in memory, optionally quantised, and generates token by token with a
//! [`KvCache`]. It runs the same layers, which are generic over [`matrices`].
//!
//! A [`Blend`] is a model whose gates blend two FFNs per layer. It computes the gradients of these gates.

mod activations;
mod attention;
mod batch;
mod checkpoint_weights;
mod decode;
mod divergence;
mod embeddings;
mod exp;
mod experts;
mod few_tokens;
mod ffn;
mod forward;
mod gated;
mod gradient;
mod input_squares;
mod kv_cache;
mod lanes;
mod linear;
mod matmul;
mod matrices;
mod norm;
mod observer;
mod pass_memory;
mod products;
mod q8_0;
mod quantised;
mod resident;
mod rounding;
mod routes;
mod softmax;
mod stream;
mod token_scores;
mod transpose;
mod weights;

pub use activations::Activations;
pub use batch::ranges;
pub use checkpoint_weights::CheckpointWeights;
pub use divergence::{Divergence, divergences};
pub use embeddings::embeddings;
pub use forward::{Pass, forward, forward_tree, logits};
pub use gradient::{Blend, GradientMemory, Gradients, Text, gradient_memory};
pub use input_squares::{InputSquares, Sums};
pub use kv_cache::KvCache;
pub use matmul::{MATMUL_BYTES, Panels, matmul};
pub use observer::Observer;
pub use pass_memory::{generation_memory, pass_memory};
pub use quantised::Quantisation;
pub use resident::ResidentModel;
pub use rounding::WeightRounding;
pub use routes::Routes;
pub use token_scores::{TokenScore, token_scores};
pub use transpose::transposed;
pub use weights::Weights;

use std::sync::{Mutex, MutexGuard, PoisonError};

use moerge_core::error::{Error, Result};

/// Locks what a panic of another thread leaves usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the first error of several threads.
fn keep_first(failure: &Mutex<Option<Error>>, error: Error) {
    lock(failure).get_or_insert(error);
}

/// The error kept, if any.
fn first_failure(failure: Mutex<Option<Error>>) -> Result<()> {
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
