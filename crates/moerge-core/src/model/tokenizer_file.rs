//! `tokenizer.json` as an editable table of tokens, for merges of models with different vocabularies.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use moerge_checkpoint::ReadStorage;
use serde_json::{Map, Value, json};

use super::files::{TOKENIZER, parse_object, read_bytes};
use crate::{
    error::{Error, Result},
    suggest::shorten,
};

/// A tokenizer file with its tokens by id.
#[derive(Debug, Clone)]
pub struct TokenizerFile {
    path: PathBuf,
    json: Map<String, Value>,
    ids: HashMap<String, u32>,
    /// One more than the largest id.
    len: usize,
    /// Where the entries of `added_tokens` are, by token.
    added: HashMap<String, usize>,
    /// Added tokens that the vocabulary has under another id, with both.
    renumbered: Vec<(String, u32, u32)>,
}

/// Most ids without a token below the largest.
const MAX_GAPS: usize = 1 << 20;

impl TokenizerFile {
    /// Reads the tokenizer in `dir`.
    ///
    /// # Errors
    /// It does not exist, or is not a file of the tokenizers library.
    pub fn open(storage: &dyn ReadStorage, dir: &Path) -> Result<Self> {
        let path = dir.join(TOKENIZER);
        let bytes = read_bytes(storage, &path).map_err(|e| {
            e.hint("vocabularies are merged by tokenizer.json; transformers writes one with save_pretrained")
        })?;
        let json = parse_object(&bytes, &path)?;
        let mut file = Self { path, json, ids: HashMap::new(), len: 0, added: HashMap::new(), renumbered: Vec::new() };
        file.read_ids()?;
        Ok(file)
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// All tokens with their ids, by id.
    pub fn tokens(&self) -> Vec<(u32, &str)> {
        let mut tokens: Vec<(u32, &str)> = self.ids.iter().map(|(token, id)| (*id, token.as_str())).collect();
        tokens.sort_unstable();
        tokens
    }

    /// One more than the largest id.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no tokens.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether both have the same tokens under the same ids.
    pub fn same_tokens(&self, other: &Self) -> bool {
        self.ids == other.ids
    }

    /// Removes the tokens without an embedding, from id `rows` on.
    ///
    /// # Errors
    /// There are such tokens, and the model is not a BPE, so tokens cannot be removed from it.
    pub fn cut(&mut self, rows: usize) -> Result<()> {
        let beyond = |id: u32| id as usize >= rows;
        let unused: HashSet<String> =
            self.ids.iter().filter(|(_, id)| beyond(**id)).map(|(token, _)| token.clone()).collect();
        if unused.is_empty() {
            return Ok(());
        }
        if let Some(added) = self.json.get_mut("added_tokens").and_then(Value::as_array_mut) {
            added.retain(|token| token.get("content").and_then(Value::as_str).is_none_or(|t| !unused.contains(t)));
        }
        let model = self.json.get_mut("model").and_then(Value::as_object_mut);
        let in_model = |model: &Map<String, Value>| match model.get("vocab") {
            Some(Value::Object(vocabulary)) => vocabulary.keys().any(|token| unused.contains(token)),
            _ => false,
        };
        if let Some(model) = model.filter(|model| in_model(model)) {
            if model.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "BPE") {
                let message = format!("{} has tokens from id {rows} on, which have no embeddings", self.path.display());
                return Err(Error::input(message).hint("such tokens can only be removed from a BPE tokenizer"));
            }
            if let Some(vocabulary) = model.get_mut("vocab").and_then(Value::as_object_mut) {
                vocabulary.retain(|token, _| !unused.contains(token));
            }
            if let Some(merges) = model.get_mut("merges").and_then(Value::as_array_mut) {
                merges.retain(|merge| !merge_parts(merge).iter().any(|part| unused.contains(*part)));
            }
        }
        self.ids.retain(|token, _| !unused.contains(token));
        self.count();
        Ok(())
    }

    /// Appends `token` unless it exists. `like` is its entry in `added_tokens` of another tokenizer.
    pub fn add(&mut self, token: &str, like: Option<&Value>) {
        if self.ids.contains_key(token) {
            return;
        }
        let id = self.len() as u32;
        let mut entry = like.and_then(Value::as_object).cloned().unwrap_or_else(|| {
            let plain = json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": true, "special": false,
            });
            plain.as_object().cloned().unwrap_or_default()
        });
        entry.insert("id".into(), json!(id));
        let added = self.json.entry("added_tokens").or_insert_with(|| json!([]));
        if let Some(added) = added.as_array_mut() {
            self.added.insert(token.to_owned(), added.len());
            added.push(Value::Object(entry));
        }
        self.ids.insert(token.to_owned(), id);
        self.len = self.len.max(id as usize + 1);
    }

    /// Finds the largest id and the added tokens anew.
    fn count(&mut self) {
        self.len = self.ids.values().max().map_or(0, |id| *id as usize + 1);
        let entries = self.json.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        let content = |(at, entry): (usize, &Value)| Some((entry.get("content")?.as_str()?.to_owned(), at));
        self.added = entries.enumerate().filter_map(content).collect();
    }

    /// The entry of `added_tokens` for a token, if it is one.
    pub fn added(&self, token: &str) -> Option<&Value> {
        self.json.get("added_tokens")?.as_array()?.get(*self.added.get(token)?)
    }

    /// The added tokens as `added_tokens_decoder` of `tokenizer_config.json` lists them: by id, without it and sorted.
    pub fn added_tokens_by_id(&self) -> Map<String, Value> {
        let entries = self.json.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        let mut tokens: Vec<(u64, Map<String, Value>)> = entries
            .filter_map(|entry| {
                let mut entry = entry.as_object()?.clone();
                Some((entry.remove("id")?.as_u64()?, entry))
            })
            .collect();
        tokens.sort_by_key(|(id, _)| *id);
        tokens.into_iter().map(|(id, entry)| (id.to_string(), Value::Object(entry))).collect()
    }

    /// Encodes the file.
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(&self.json).unwrap_or_default() + "\n"
    }

    /// Refuses ids far beyond the number of tokens: embeddings with a row for each would be nearly empty.
    ///
    /// # Errors
    /// There is one, which is named.
    pub fn check_gaps(&self) -> Result<()> {
        let most = self.ids.len().saturating_add(MAX_GAPS);
        match self.tokens().last() {
            Some((id, token)) if *id as usize >= most => {
                let token = shorten(token);
                Err(Error::input(format!("{}: token {token:?} has id {id}", self.path.display()))
                    .fact("tokens", self.ids.len().to_string())
                    .hint("the file is damaged; download it again"))
            }
            _ => Ok(()),
        }
    }

    /// What is odd about it, for a model whose embeddings have `rows` rows.
    pub fn doubts(&self, rows: usize) -> Vec<String> {
        let mut doubts = Vec::new();
        let tokens = self.tokens();
        let beyond: Vec<&(u32, &str)> = tokens.iter().filter(|(id, _)| *id as usize >= rows).collect();
        if let Some((id, token)) = beyond.first() {
            let (count, token) = (beyond.len(), shorten(token));
            doubts.push(format!(
                "{count} of its tokens have no row among the {rows} of its embeddings, such as {token:?} ({id}); none of \
                 these comes from this model"
            ));
        }
        if let Some(twice) = tokens.windows(2).find(|two| two[0].0 == two[1].0) {
            let (id, one, other) = (twice[0].0, shorten(twice[0].1), shorten(twice[1].1));
            doubts.push(format!("its tokenizer has two tokens with id {id}: {one:?} and {other:?}"));
        }
        if let Some((token, own, added)) = self.renumbered.first() {
            let token = shorten(token);
            doubts.push(format!(
                "its tokenizer adds {token:?} with id {added}, but its vocabulary has it with id {own}, which counts"
            ));
        }
        doubts
    }

    fn read_ids(&mut self) -> Result<()> {
        let wrong = |what: &str| Error::input(format!("{}: {what}", self.path.display()));
        let mut renumbered = Vec::new();
        let mut ids = HashMap::new();
        let number = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match self.json.get("model").and_then(|model| model.get("vocab")) {
            Some(Value::Object(vocabulary)) => {
                for (token, id) in vocabulary {
                    let id = number(id).ok_or_else(|| wrong("an id in the vocabulary is not a whole number"))?;
                    ids.insert(token.clone(), id);
                }
            }
            Some(Value::Array(pieces)) => {
                for (id, piece) in pieces.iter().enumerate() {
                    let token = piece.get(0).and_then(Value::as_str).ok_or_else(|| wrong("a piece has no text"))?;
                    ids.insert(token.to_owned(), id as u32);
                }
            }
            _ => return Err(wrong("it has no vocabulary (`model.vocab`)")),
        }
        for entry in self.json.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            let token = entry.get("content").and_then(Value::as_str);
            let id = entry.get("id").and_then(number);
            let (Some(token), Some(id)) = (token, id) else {
                return Err(wrong("an added token has no `id` and `content`"));
            };
            // The tokenizers library looks a token up in the vocabulary first.
            match ids.get(token) {
                Some(own) if *own != id => renumbered.push((token.to_owned(), *own, id)),
                _ => drop(ids.insert(token.to_owned(), id)),
            }
        }
        (self.ids, self.renumbered) = (ids, renumbered);
        self.count();
        Ok(())
    }
}

/// The two parts of a BPE merge, `"a b"` or `["a", "b"]`, and their concatenation.
fn merge_parts(merge: &Value) -> Vec<&str> {
    match merge {
        Value::String(text) => text.splitn(2, ' ').collect(),
        Value::Array(parts) => parts.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moerge_checkpoint::LocalStorage;

    fn open(text: &str) -> Result<TokenizerFile> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(TOKENIZER), text).unwrap();
        TokenizerFile::open(&LocalStorage, dir.path())
    }

    const BPE: &str = r#"{"added_tokens": [{"id": 4, "content": "<x>", "special": true}],
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "abb": 3}, "merges": ["a b", ["ab", "b"]]}}"#;

    #[test]
    fn tokens_are_cut_and_added_by_id() {
        let mut file = open(BPE).unwrap();
        assert_eq!((file.len(), file.id("<x>"), file.id("ab")), (5, Some(4), Some(2)));
        file.cut(3).unwrap();
        assert_eq!((file.len(), file.id("<x>"), file.id("abb")), (3, None, None));
        assert!(file.to_text().contains("a b") && !file.to_text().contains("\"<x>\""));
        let like = open(BPE).unwrap();
        file.add("<x>", like.added("<x>"));
        file.add("new", None);
        file.add("a", None);
        assert_eq!((file.id("<x>"), file.id("new"), file.len()), (Some(3), Some(4), 5));
        assert_eq!(file.added("<x>").unwrap()["special"], true);
        assert_eq!(file.tokens()[3..], [(3, "<x>"), (4, "new")]);
    }

    #[test]
    fn a_list_of_pieces_is_a_vocabulary_and_nonsense_is_none() {
        let file = open(r#"{"model": {"type": "Unigram", "vocab": [["a", -1], ["b", -2]]}}"#).unwrap();
        assert_eq!(file.tokens(), [(0, "a"), (1, "b")]);
        for text in
            ["{}", "[]", r#"{"model": {"vocab": {"a": -1}}}"#, r#"{"model": {"vocab": {}}, "added_tokens": [1]}"#]
        {
            assert!(open(text).is_err(), "{text}");
        }
    }
}
