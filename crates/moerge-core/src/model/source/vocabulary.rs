//! The vocabulary of a tokenizer, to check whether two models agree on token ids.

use std::{collections::BTreeMap, fmt, path::Path};

use moerge_checkpoint::ReadStorage;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use crate::{
    model::{
        files::{TOKENIZER, read_bytes},
        tokenizer_overrides::TokenizerOverrides,
    },
    suggest::shorten,
};

/// Tokens by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vocabulary {
    tokens: BTreeMap<u32, String>,
    /// Tokens that the post-processor adds to every text, by ids of its own.
    added_to_text: BTreeMap<u32, String>,
}

#[derive(Deserialize)]
struct TokenizerFile {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    post_processor: Value,
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
        Self::parse(&read_bytes(storage, &dir.join(TOKENIZER)).ok()?)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let file: TokenizerFile = serde_json::from_slice(bytes).ok()?;
        let Words(mut words) = file.model.vocab;
        words.extend(file.added_tokens.into_iter().map(|t| (t.id, t.content)));
        let mut added_to_text = BTreeMap::new();
        tokens_of_processor(&file.post_processor, &mut added_to_text);
        Some(Self { tokens: words, added_to_text })
    }

    /// The words of the tokenizer in `dir`, or those that replace them.
    pub fn of(storage: &dyn ReadStorage, dir: &Path, overrides: &TokenizerOverrides) -> Option<Self> {
        match &overrides.vocabulary {
            Some(merged) => Self::parse(merged.to_text().as_bytes()),
            None => Self::read(storage, dir),
        }
    }

    /// The token with the largest id. If the vocabulary does not contain `bos`, it becomes the next token.
    pub fn last_with_bos<'v>(&'v self, bos: Option<&'v str>) -> Option<(u32, &'v str)> {
        let (id, token) = self.tokens.last_key_value()?;
        let last = match bos.filter(|bos| !bos.is_empty() && !self.tokens.values().any(|token| token == bos)) {
            Some(bos) => (id.saturating_add(1), bos),
            None => (*id, token.as_str()),
        };
        let added = self.added_to_text.last_key_value().map(|(id, token)| (*id, token.as_str()));
        added.into_iter().chain([last]).max_by_key(|(id, _)| *id)
    }

    /// A warning about an expert with this vocabulary on a base with the vocabulary `base`; `None` if they agree.
    ///
    /// Tokens that only the base has are harmless; tokens that only the expert has are never used; ids with different
    /// tokens are a problem.
    pub fn differs_from(&self, base: &Self) -> Option<String> {
        let clashes: Vec<_> =
            self.tokens.iter().filter(|(id, token)| base.tokens.get(id).is_some_and(|b| b != *token)).collect();
        let unknown: Vec<_> = self.tokens.iter().filter(|(id, _)| !base.tokens.contains_key(id)).collect();
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

/// The tokens that a post-processor adds: those of a template, or the two of BERT's and RoBERTa's.
fn tokens_of_processor(processor: &Value, found: &mut BTreeMap<u32, String>) {
    let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    // A text needs no more; nested ones are in the list.
    let listed = processor.get("processors").and_then(Value::as_array).into_iter().flatten();
    for part in [processor].into_iter().chain(listed) {
        for token in part.get("special_tokens").and_then(Value::as_object).into_iter().flat_map(|all| all.values()) {
            let list = |key: &str| token.get(key).and_then(Value::as_array).into_iter().flatten();
            found.extend(
                list("ids").zip(list("tokens")).filter_map(|(n, name)| Some((id(n)?, name.as_str()?.to_owned()))),
            );
        }
        let ends = ["sep", "cls"].into_iter().filter_map(|key| part.get(key)?.as_array());
        found.extend(ends.filter_map(|pair| Some((id(pair.get(1)?)?, pair.first()?.as_str()?.to_owned()))));
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
        let tokens = tokens.iter().map(|(id, token)| (*id, (*token).to_owned())).collect();
        Vocabulary { tokens, added_to_text: BTreeMap::new() }
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
