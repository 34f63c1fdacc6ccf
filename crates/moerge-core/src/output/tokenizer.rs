//! A merged vocabulary among the files of an output: `tokenizer.json` gets it, and files that list the tokens of a single
//! model are left out or follow.

use serde_json::{Map, Value};

use super::output_file::{OutputFile, file};
use crate::model::{
    files::{TOKENIZER, TOKENIZER_CONFIG},
    tokenizer_file::TokenizerFile,
};

/// Files that hold the tokens of one model.
const STALE: [&str; 8] = [
    TOKENIZER,
    "tokenizer.model",
    "tokenizer.model.v3",
    "tekken.json",
    "spiece.model",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
];

/// Makes `merged` the tokenizer of an output of these files.
pub fn set(files: &mut Vec<OutputFile>, merged: &TokenizerFile) {
    files.retain(|file| !STALE.contains(&file.name.as_str()));
    for config in files.iter_mut().filter(|file| file.name == TOKENIZER_CONFIG) {
        let Ok(mut object) = serde_json::from_slice::<Map<String, Value>>(&config.bytes) else { continue };
        // transformers adds the tokens that are listed here: one that was cut off would come back without an embedding.
        if object.contains_key("added_tokens_decoder") {
            object.insert("added_tokens_decoder".into(), Value::Object(merged.added_tokens_by_id()));
            if let Ok(text) = serde_json::to_string_pretty(&object) {
                config.bytes = (text + "\n").into_bytes();
            }
        }
    }
    files.push(file(TOKENIZER, merged.to_text()));
}
