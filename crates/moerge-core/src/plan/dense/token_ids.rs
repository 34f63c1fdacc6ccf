//! Ids of tokens in `config.json`, where the output's tokenizer gives these tokens other ids.

use serde_json::{Map, Value, json};

use crate::model::tokenizer_file::TokenizerFile;

/// Gives tokens that `config` names by their id in `from` the id that they have in `to`. Returns a warning for each key
/// whose token `to` lacks.
pub fn renumber(config: &mut Map<String, Value>, from: &TokenizerFile, to: &TokenizerFile) -> Vec<String> {
    let tokens = from.tokens();
    let mut warnings = Vec::new();
    visit(config, &mut |key, id| {
        let at = tokens.binary_search_by_key(id, |(id, _)| u64::from(*id)).ok()?;
        let token = tokens[at].1;
        let new = to.id(token).map(u64::from);
        if new.is_none() {
            warnings.push(format!(
                "config.json: `{key}` is the id {id} of {token:?}, which is not a token of the output's tokenizer"
            ));
        }
        new
    });
    warnings
}

/// Replaces every id of a token by what `new` makes of it, if it does.
fn visit(config: &mut Map<String, Value>, new: &mut dyn FnMut(&str, &u64) -> Option<u64>) {
    for (key, value) in config {
        let names_token = key.ends_with("_token_id") || key.ends_with("_token_index") || key.ends_with("_token_ids");
        match value {
            Value::Object(part) => visit(part, new),
            Value::Array(ids) if names_token => ids.iter_mut().for_each(|id| replace(key, id, new)),
            id if names_token => replace(key, id, new),
            _ => {}
        }
    }
}

fn replace(key: &str, value: &mut Value, new: &mut dyn FnMut(&str, &u64) -> Option<u64>) {
    if let Some(id) = value.as_u64().and_then(|id| new(key, &id)) {
        *value = json!(id);
    }
}

#[cfg(test)]
mod tests {
    use moerge_checkpoint::LocalStorage;

    use super::*;

    fn tokenizer(vocabulary: &str) -> TokenizerFile {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(r#"{{"model": {{"type": "BPE", "merges": [], "vocab": {vocabulary}}}}}"#);
        std::fs::write(dir.path().join("tokenizer.json"), text).unwrap();
        TokenizerFile::open(&LocalStorage, dir.path()).unwrap()
    }

    #[test]
    fn ids_follow_their_tokens_into_the_new_vocabulary() {
        let from = tokenizer(r#"{"a": 0, "<s>": 1, "</s>": 2, "<pad>": 3}"#);
        let to = tokenizer(r#"{"<s>": 0, "</s>": 1, "a": 2}"#);
        let config = json!({"bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": 3, "vocab_size": 4,
            "text_config": {"image_token_index": 0}, "sep_token_id": null, "unk_token_id": 77});
        let mut config = config.as_object().unwrap().clone();
        let warnings = renumber(&mut config, &from, &to);
        let expected = json!({"bos_token_id": 0, "eos_token_id": [1, 2], "pad_token_id": 3, "vocab_size": 4,
            "text_config": {"image_token_index": 2}, "sep_token_id": null, "unk_token_id": 77});
        assert_eq!(Value::Object(config), expected);
        assert!(warnings.len() == 1 && warnings[0].contains("`pad_token_id` is the id 3 of \"<pad>\""), "{warnings:?}");
    }
}
