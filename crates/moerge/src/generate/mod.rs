//! Text from a model in memory: sampling, one sequence at a time or many at once, and the model's chat template.

mod batch;
mod chat_template;
mod generator;
mod sampling;
mod stop;
mod text_stream;

pub use batch::generate_batch;
pub use chat_template::{ChatTemplate, Message};
pub use generator::Generator;
pub use sampling::{Sampler, Sampling};
pub use stop::stop_tokens;
pub use text_stream::TextStream;
