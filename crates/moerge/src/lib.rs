//! moerge turns pretrained language models into a Mixture of Experts.
//!
//! The flow is one way: a [`recipe`] and the headers of its models make a [`plan`], the prompt pass makes
//! [`router`]s, and [`execute`] writes what the plan says. See ARCHITECTURE.md.

pub mod architecture;
#[cfg(feature = "inference")]
mod element;
pub mod error;
#[cfg(feature = "inference")]
pub mod evaluate;
#[cfg(feature = "inference")]
pub mod execute;
#[cfg(feature = "inference")]
pub mod generate;
#[cfg(feature = "hub")]
pub mod hub;
pub mod inspect;
mod json_words;
#[cfg(feature = "inference")]
pub mod memory;
#[cfg(feature = "inference")]
pub mod merge;
#[cfg(feature = "inference")]
pub mod model;
pub mod model_card;
pub mod model_config;
mod model_folder;
pub mod model_source;
pub mod moerge_json;
#[cfg(feature = "inference")]
mod noise;
#[cfg(feature = "inference")]
pub mod output_files;
pub mod plan;
pub mod progress;
pub mod prompts_file;
pub mod recipe;
pub mod recipe_check;
pub mod rope;
#[cfg(feature = "inference")]
pub mod route;
#[cfg(feature = "inference")]
pub mod router;
#[cfg(feature = "inference")]
pub mod runner;
pub mod source;
mod spelling;
#[cfg(feature = "inference")]
pub mod tokenizer;
#[cfg(feature = "inference")]
pub mod transformer;
pub mod verify;

pub use error::{Error, ErrorKind, Result};

#[cfg(test)]
mod rendered;
