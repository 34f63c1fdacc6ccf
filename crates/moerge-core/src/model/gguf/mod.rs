//! GGUF files as model folders: what reads a folder reads `model.gguf` as one that holds `config.json`,
//! `tokenizer.json`, the small files beside them, and `model.safetensors`.
//!
//! None of these files exists. The small ones are made from the file's metadata; the weights are read from it on
//! request, under Hugging Face's names, in its order of rows, and with blocks decoded to f32. So a GGUF file can be
//! run, measured, verified, compared and merged as any other model.
//!
//! Facts are those of llama.cpp's loader (`llama-model.cpp`, `llama-vocab.cpp`, as in llama-cpp-python 0.3.36).

mod config;
mod folder;
mod metadata;
pub mod names;
pub mod pre_tokenizers;
mod quantised;
mod rope;
pub mod rows;
mod storage;
pub mod token_types;
mod tokenizer;
mod weights;

pub use folder::GgufFolder;
pub use quantised::{QuantisedSource, quantised_sources};
pub use storage::{GgufStorage, is_gguf, local_models};
pub use tokenizer::tokenizer_json;
