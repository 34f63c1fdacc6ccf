//! Models on disk: config, families, weights by role, adapters and folders.

pub mod config;
mod defaults;
pub mod families;
pub mod files;
pub mod folder;
pub mod foreign_weights;
pub mod gguf;
pub mod layer_spec;
pub mod locate;
pub mod model_ref;
pub mod named_model;
pub mod named_tensor;
pub mod role;
pub mod rope;
pub mod source;
pub mod source_files;
pub mod tied_head;
pub mod token_tensors;
pub mod tokenizer_file;
pub mod tokenizer_overrides;
mod unsupported;
