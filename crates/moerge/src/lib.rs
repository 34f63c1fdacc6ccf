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
pub mod moerge_json;
pub mod plan;
pub mod progress;
pub mod recipe;
pub mod rope;
pub mod source;
#[cfg(feature = "inference")]
pub mod transformer;
pub mod verify;

pub use error::{Error, ErrorKind, Result};

#[cfg(test)]
mod rendered;
