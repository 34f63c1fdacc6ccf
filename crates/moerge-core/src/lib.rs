//! Recipes, models and plans: from a YAML file and the headers of its models to a checkpoint, as a stream of tensors.
//!
//! The flow is one way: a [`recipe`] and the headers of its models make a [`plan`], and [`execute`] writes what the plan
//! says. Nothing here runs a model, knows a network or a terminal. See ARCHITECTURE.md.

pub mod caught;
pub mod error;
pub mod execute;
pub mod inspect;
pub mod json_error;
pub mod jsonl;
pub mod model;
pub mod numeric;
pub mod ops;
pub mod output;
pub mod plan;
pub mod progress;
pub mod recipe;
pub mod record;
pub mod suggest;

pub use error::{Cause, Error, ErrorKind, Result};

#[cfg(test)]
mod rendered;
