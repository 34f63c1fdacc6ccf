//! The small files of an output: copied files, the model card, and the record of where every tensor came from.

pub mod card;
pub mod chat_template;
pub mod files;
mod output_file;
pub mod replaceable;
mod tokenizer;
