//! Running a decoder, dense or MoE, in the memory of a few tiles of its weights.
//!
//! [`forward()`] takes prompts through the layers; the weights pass by as one stream ([`stream`]), each read once and
//! multiplied as soon as it is there ([`linear`]). All arithmetic is f32 on the CPU, whatever the weights are stored
//! as, and its result is the same for any number of threads. candle is named only in [`matmul`].

mod activations;
mod attention;
mod batch;
mod checkpoint_weights;
mod experts;
mod ffn;
mod forward;
mod linear;
mod matmul;
mod norm;
mod rounding;
mod stream;
mod weights;

pub use activations::Activations;
pub use batch::ranges;
pub use checkpoint_weights::CheckpointWeights;
pub use forward::{Observer, embeddings, forward, logits};
pub use matmul::Operand;
pub use rounding::WeightRounding;
pub use weights::Weights;
