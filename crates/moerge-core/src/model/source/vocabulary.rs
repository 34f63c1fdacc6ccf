//! The vocabulary of a tokenizer, to check whether two models agree on token ids.

use std::{collections::BTreeMap, fmt, path::Path};

use moerge_checkpoint::ReadStorage;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use super::read_bytes;
use crate::suggest::shorten;

/// Tokens by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vocabulary(BTreeMap<u32, String>);

#[derive(Deserialize)]
struct TokenizerFile {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct Model {
    vocab: Words,
}

/// BPE and WordPiece have an object, Unigram a list of `[token, score]`. Deserialized in one pass: a buffered copy of a
/// large vocabulary would dominate memory.
struct Words(BTreeMap<u32, String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordsVisitor)
    }
}

struct WordsVisitor;

impl<'de> Visitor<'de> for WordsVisitor {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vocabulary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words, A::Error> {
        let mut words = BTreeMap::new();
        while let Some((token, id)) = map.next_entry()? {
            words.insert(id, token);
        }
        Ok(Words(words))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
        let mut words = BTreeMap::new();
        for id in 0.. {
            let Some((token, _score)) = list.next_element::<(String, f64)>()? else { break };
            words.insert(id, token);
        }
        Ok(Words(words))
    }
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

impl Vocabulary {
    /// The words of the tokenizer in `dir`; `None` if there is no readable `tokenizer.json`.
    pub fn read(storage: &dyn ReadStorage, dir: &Path) -> Option<Self> {
        let bytes = read_bytes(storage, &dir.join("tokenizer.json")).ok()?;
        let file: TokenizerFile = serde_json::from_slice(&bytes).ok()?;
        let Words(mut words) = file.model.vocab;
        words.extend(file.added_tokens.into_iter().map(|t| (t.id, t.content)));
        Some(Self(words))
    }

    /// The token with the largest id. If the vocabulary does not contain `bos`, it becomes the next token.
    pub fn last_with_bos<'v>(&'v self, bos: Option<&'v str>) -> Option<(u32, &'v str)> {
        let (id, token) = self.0.last_key_value()?;
        match bos.filter(|bos| !bos.is_empty() && !self.0.values().any(|token| token == bos)) {
            Some(bos) => Some((id.saturating_add(1), bos)),
            None => Some((*id, token)),
        }
    }

    /// A warning about an expert with this vocabulary on a base with the vocabulary `base`; `None` if they agree.
    ///
    /// Tokens that only the base has are harmless; tokens that only the expert has are never used; ids with different
    /// tokens are a problem.
    pub fn differs_from(&self, base: &Self) -> Option<String> {
        let clashes: Vec<_> = self.0.iter().filter(|(id, token)| base.0.get(id).is_some_and(|b| b != *token)).collect();
        let unknown: Vec<_> = self.0.iter().filter(|(id, _)| !base.0.contains_key(id)).collect();
        let names = |tokens: &[(&u32, &String)]| {
            let shown: Vec<_> = tokens.iter().take(4).map(|(id, token)| format!("{token:?} ({id})")).collect();
            format!("{}{}", shown.join(", "), if tokens.len() > 4 { ", ..." } else { "" })
        };
        if !clashes.is_empty() {
            return Some(format!(
                "{} token ids mean another token than in the base: {}",
                clashes.len(),
                names(&clashes)
            ));
        }
        (!unknown.is_empty())
            .then(|| format!("{} tokens the base does not have will not be used: {}", unknown.len(), names(&unknown)))
    }
}

/// The problem if the token with the largest id has no embedding among `rows` rows. More rows than tokens are common
/// and fine.
pub fn token_without_row(id: u32, token: &str, rows: u64) -> Option<String> {
    let token = shorten(token);
    (u64::from(id) >= rows)
        .then(|| format!("the tokenizer has token {id} ({token:?}), but the embeddings have {rows} rows"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(tokens: &[(u32, &str)]) -> Vocabulary {
        Vocabulary(tokens.iter().map(|(id, token)| (*id, (*token).to_owned())).collect())
    }

    #[test]
    fn reads_objects_and_lists() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            std::fs::write(dir.path().join("tokenizer.json"), text).unwrap();
            Vocabulary::read(&moerge_checkpoint::LocalStorage, dir.path())
        };
        let expected = vocabulary(&[(0, "a"), (1, "b"), (2, "<s>")]);
        let added = r#""added_tokens": [{"id": 2, "content": "<s>", "special": true}]"#;
        assert_eq!(
            read(&format!(r#"{{"model": {{"vocab": {{"a": 0, "b": 1}}, "merges": []}}, {added}}}"#)),
            Some(expected.clone())
        );
        assert_eq!(read(&format!(r#"{{"model": {{"vocab": [["a", -1.5], ["b", -2]]}}, {added}}}"#)), Some(expected));
        assert_eq!(read("{}"), None);
    }

    #[test]
    fn says_what_differs_and_keeps_quiet_about_tokens_that_only_the_base_has() {
        let base = vocabulary(&[(0, "a"), (1, "b")]);
        assert_eq!(vocabulary(&[(0, "a")]).differs_from(&base), None);
        let more = vocabulary(&[(0, "a"), (2, "<|im_start|>")]).differs_from(&base).unwrap();
        assert_eq!(more, "1 tokens the base does not have will not be used: \"<|im_start|>\" (2)");
        let other = vocabulary(&[(0, "b"), (1, "a")]).differs_from(&base).unwrap();
        assert_eq!(other, "2 token ids mean another token than in the base: \"b\" (0), \"a\" (1)");
    }
}
