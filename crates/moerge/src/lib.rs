//! moerge turns pretrained language models into a Mixture of Experts.
//!
//! The flow is one way: a [`recipe`] and the headers of its models make a [`plan`], the prompt pass makes
//! [`router`]s, and [`execute`] writes what the plan says. See ARCHITECTURE.md.

pub mod architecture;
mod element;
pub mod error;
pub mod inspect;
pub mod model_card;
pub mod model_config;
mod model_folder;
pub mod model_source;
pub mod moerge_json;
pub mod plan;
pub mod progress;
pub mod prompts_file;
pub mod recipe;
pub mod recipe_check;
pub mod rope;
pub mod source;
mod spelling;
#[cfg(feature = "inference")]
pub mod transformer;
pub mod verify;

#[cfg(test)]
mod rendered;

pub use error::{Error, ErrorKind, Result};
