//! Models as they lie on disk: their config, the tables of families, their weights by role, adapters, folders.

pub mod config;
pub mod families;
pub mod folder;
pub mod locate;
pub mod model_ref;
pub mod rope;
pub mod source;
