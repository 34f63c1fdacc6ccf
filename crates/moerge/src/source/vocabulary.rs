//! A tokenizer's words, for saying whether two models mean the same by a token id.

use std::{collections::BTreeMap, path::Path};

use checkpoint::Storage;
use serde::Deserialize;

use super::read_bytes;

/// Token id -> token.
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

/// BPE and WordPiece keep an object, Unigram a list of `[token, score]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Ids(BTreeMap<String, u32>),
    Scores(Vec<(String, f64)>),
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

impl Vocabulary {
    /// The words of the tokenizer in `dir`; `None` where there is no `tokenizer.json` that can be read.
    pub fn read(storage: &dyn Storage, dir: &Path) -> Option<Self> {
        let bytes = read_bytes(storage, &dir.join("tokenizer.json")).ok()?;
        let file: TokenizerFile = serde_json::from_slice(&bytes).ok()?;
        let mut words: BTreeMap<u32, String> = match file.model.vocab {
            Words::Ids(ids) => ids.into_iter().map(|(token, id)| (id, token)).collect(),
            Words::Scores(list) => (0..).zip(list).map(|(id, (token, _))| (id, token)).collect(),
        };
        words.extend(file.added_tokens.into_iter().map(|t| (t.id, t.content)));
        Some(Self(words))
    }

    /// What a person should know about an expert with this vocabulary on a base with `base`'s; `None` if they agree.
    ///
    /// Tokens that only the base has do no harm; tokens that only the expert has are never seen by it; ids that mean
    /// another token in each are trouble.
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
