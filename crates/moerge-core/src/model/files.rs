//! A model's files besides the weights: their names, as written by the Hugging Face tools, and how they are read.

use std::path::Path;

pub use moerge_checkpoint::{ADAPTER_CONFIG_FILE as ADAPTER_CONFIG, CONFIG_FILE as CONFIG};
use moerge_checkpoint::{FileKind, ReadStorage};
use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    json_error::json_problem,
};

/// The weights of an adapter, in order of precedence.
pub const ADAPTER_WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
/// The tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// Its special tokens, and mostly the chat template.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Stop tokens, and how answers are sampled.
pub const GENERATION_CONFIG: &str = "generation_config.json";
/// A chat template.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// A chat template in its older form.
pub const CHAT_TEMPLATE_JSON: &str = "chat_template.json";
/// The special tokens of a tokenizer, in their older place.
pub const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
/// Tokens besides those of the vocabulary.
pub const ADDED_TOKENS: &str = "added_tokens.json";
/// The vocabulary of a BPE tokenizer in its older form.
pub const VOCAB: &str = "vocab.json";
/// The merges of a BPE tokenizer in its older form.
pub const MERGES: &str = "merges.txt";
/// A SentencePiece model.
pub const SENTENCEPIECE: &str = "tokenizer.model";
/// Mistral's tokenizer.
pub const TEKKEN: &str = "tekken.json";
/// The model card.
pub const MODEL_CARD: &str = "README.md";

/// Files of a tokenizer. Those of the base are copied to the output.
pub const TOKENIZER_FILES: [&str; 12] = [
    TOKENIZER,
    TOKENIZER_CONFIG,
    SENTENCEPIECE,
    "tokenizer.model.v3",
    TEKKEN,
    "spiece.model",
    SPECIAL_TOKENS_MAP,
    ADDED_TOKENS,
    VOCAB,
    MERGES,
    CHAT_TEMPLATE,
    CHAT_TEMPLATE_JSON,
];

/// Reads a small text file.
///
/// # Errors
/// As for [`read_bytes`], or it is not UTF-8.
pub fn read_text(storage: &dyn ReadStorage, path: &Path) -> Result<String> {
    let bytes = read_bytes(storage, path)?;
    String::from_utf8(bytes).map_err(|e| {
        Error::input(format!("{} is not UTF-8 text (byte {})", path.display(), e.utf8_error().valid_up_to()))
    })
}

/// The JSON object that a file holds; `path` is only for messages.
///
/// # Errors
/// It is not a JSON object.
pub fn parse_object(bytes: &[u8], path: &Path) -> Result<Map<String, Value>> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::input(format!("{} is not a JSON object: {}", path.display(), json_problem(&e))))
}

/// Reads a small file; more than 256 MiB is an error.
///
/// # Errors
/// It is not a regular file, is larger than 256 MiB, or cannot be read.
pub fn read_bytes(storage: &dyn ReadStorage, path: &Path) -> Result<Vec<u8>> {
    let read = || {
        // Opening a pipe could block forever.
        if storage.facts(path)?.kind != FileKind::File {
            return Err(std::io::Error::other("it is not a file"));
        }
        let file = storage.open(path)?;
        if file.len() > 256 << 20 {
            return Err(std::io::Error::other("it is larger than 256 MiB"));
        }
        let mut bytes = vec![0; file.len() as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    read().map_err(|e| Error::io("read", path, &e))
}
