//! Running models: one decoder over streamed or resident weights, tokenizers, chat templates and text generation.

pub mod decoder;
pub mod generate;
pub mod jinja;
pub mod model;
mod partial_expert;
pub mod prefix_tree;
pub mod runner;
mod source_weights;
mod special_tokens;
pub mod tokenizer;

pub use partial_expert::PartialExpert;
pub use source_weights::SourceWeights;
pub use special_tokens::SpecialTokens;

// The tests of moerge-lib include the golden models of this crate's.
#[cfg(test)]
extern crate self as moerge_infer;
