//! The small files of an output: what is copied, the model card, the record of where every tensor came from.

pub mod card;
pub mod chat_template;
pub mod files;
pub mod replaceable;
