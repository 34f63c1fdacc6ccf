//! Text from a model in memory: sampling, chat templates, and two loops. [`answer()`] streams one sequence for a user and
//! keeps its cache for the next turn. `continue_many` runs many sequences at once, for [`generate_batch`], which samples,
//! and [`generate_greedily`], which answers questions.

mod answer;
mod batch;
mod chat_template;
mod generation_config;
mod generator;
mod greedy;
mod many;
mod routing_trace;
mod sampling;
mod text_stream;

pub use answer::{End, Limits, Piece, answer};
pub use batch::generate_batch;
pub use chat_template::{ChatTemplate, Conversation, Message, max_prompt_bytes, template_problem};
pub use generation_config::GenerationConfig;
pub use generator::Generator;
pub use greedy::{GreedyLimits, generate_greedily};
pub use routing_trace::RoutingTrace;
pub use sampling::{Sampler, Sampling};
pub use text_stream::TextStream;
