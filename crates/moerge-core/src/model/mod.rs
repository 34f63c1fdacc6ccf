//! Models on disk: config, families, weights by role, adapters and folders.

pub mod config;
pub mod families;
pub mod folder;
pub mod layer_spec;
pub mod locate;
pub mod model_ref;
pub mod role;
pub mod rope;
pub mod source;
