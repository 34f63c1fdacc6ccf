//! A merged vocabulary among the files of an output: `tokenizer.json` gets it, and files that list the tokens of a single
//! model are left out or follow.

use serde_json::{Map, Value};

use super::output_file::{OutputFile, file};
use crate::model::{
    files::{CHAT_TEMPLATE, CHAT_TEMPLATE_JSON, SPECIAL_TOKENS_MAP, TOKENIZER, TOKENIZER_CONFIG, TOKENIZER_FILES},
    tokenizer_file::TokenizerFile,
};

/// Files that hold the tokens of one model: all but those of settings.
fn is_stale(name: &str) -> bool {
    TOKENIZER_FILES.contains(&name)
        && !matches!(name, TOKENIZER_CONFIG | SPECIAL_TOKENS_MAP | CHAT_TEMPLATE | CHAT_TEMPLATE_JSON)
}

/// Makes `merged` the tokenizer of an output of these files.
pub fn set(files: &mut Vec<OutputFile>, merged: &TokenizerFile) {
    files.retain(|file| !is_stale(&file.name));
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
