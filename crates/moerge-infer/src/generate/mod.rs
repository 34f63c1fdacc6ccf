//! Text from a model in memory: sampling, chat templates, and the two ways to generate. [`answer()`] streams one sequence
//! for a user and keeps its cache for the next turn; [`generate_batch`] runs many of the same length in lockstep. Both
//! are a [`Sampler`] around [`ResidentModel::step`](crate::decoder::ResidentModel::step).

mod answer;
mod batch;
mod chat_template;
mod generation_config;
mod generator;
mod routing_trace;
mod sampling;
mod text_stream;

pub use answer::{End, Limits, Piece, answer};
pub use batch::generate_batch;
pub use chat_template::{ChatTemplate, Conversation, Message, max_prompt_bytes, template_problem};
pub use generation_config::GenerationConfig;
pub use generator::Generator;
pub use routing_trace::RoutingTrace;
pub use sampling::{Sampler, Sampling};
pub use text_stream::TextStream;
