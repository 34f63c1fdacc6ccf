//! The named special tokens of a tokenizer (`bos_token`, `eos_token`, `image_token`, ...): templates print them, and
//! the EOS token ends an answer.

use std::path::Path;

use moerge_checkpoint::ReadStorage;
use moerge_core::{
    error::Result,
    model::files::{SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG, parse_object, read_bytes},
};
use serde_json::{Map, Value};

/// Names and texts, in the order of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens(Vec<(String, String)>);

impl SpecialTokens {
    /// Reads those of the model in `dir`, as transformers does: from `tokenizer_config.json`, and from
    /// `special_tokens_map.json` where the former has no `added_tokens_decoder`.
    ///
    /// # Errors
    /// A file is there, but is not a JSON object.
    pub fn open(storage: &dyn ReadStorage, dir: &Path) -> Result<Self> {
        let config = object(storage, &dir.join(TOKENIZER_CONFIG))?;
        let map = match config.contains_key("added_tokens_decoder") {
            true => Map::new(),
            false => object(storage, &dir.join(SPECIAL_TOKENS_MAP))?,
        };
        Ok(Self::new(&config, &map))
    }

    /// Those in the value of a `tokenizer_config.json`.
    pub fn from_config(config: &Value) -> Self {
        config.as_object().map(|config| Self::new(config, &Map::new())).unwrap_or_default()
    }

    fn new(config: &Map<String, Value>, map: &Map<String, Value>) -> Self {
        let mut tokens = Self::default();
        for file in [config, map] {
            for (name, token) in file.iter().filter(|(name, _)| name.ends_with("_token")) {
                tokens.insert(name, token);
            }
            for key in ["extra_special_tokens", "model_specific_special_tokens"] {
                for (name, token) in file.get(key).and_then(Value::as_object).into_iter().flatten() {
                    tokens.insert(name, token);
                }
            }
        }
        tokens
    }

    fn insert(&mut self, name: &str, token: &Value) {
        let text = token.as_str().or_else(|| token.get("content").and_then(Value::as_str));
        let Some(text) = text else { return };
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => text.clone_into(known),
            None => self.0.push((name.to_owned(), text.to_owned())),
        }
    }

    /// The text of the token called `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// All names with their texts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }
}

/// The JSON object in a file; empty where the file is not there.
pub(crate) fn object(storage: &dyn ReadStorage, path: &Path) -> Result<Map<String, Value>> {
    if storage.facts(path).is_err() {
        return Ok(Map::new());
    }
    parse_object(&read_bytes(storage, path)?, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: Value, map: Value) -> Vec<(String, String)> {
        SpecialTokens::new(config.as_object().unwrap(), map.as_object().unwrap()).0
    }

    #[test]
    fn tokens_are_named_in_both_files_as_strings_or_objects() {
        let config = serde_json::json!({
            "bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null, "add_bos_token": true,
            "image_token": "<image>", "extra_special_tokens": {"audio": "<audio>"}, "tokenizer_class": "X",
        });
        let found = read(config, serde_json::json!({"eos_token": "<end>", "additional_special_tokens": ["<x>"]}));
        let expected = [("bos_token", "<s>"), ("eos_token", "<end>"), ("image_token", "<image>"), ("audio", "<audio>")];
        assert_eq!(found, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }
}
