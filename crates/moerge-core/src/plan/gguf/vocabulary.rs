//! A model's tokenizer as metadata: tokens, their types, merges, special tokens, chat template.

use std::{collections::HashMap, path::Path};

use moerge_checkpoint::{
    ReadStorage,
    gguf::{Metadata, Value as GgufValue},
};
use serde_json::{Map, Value};

use crate::{
    error::{Cause, Error, Result},
    model::{
        files::{CHAT_TEMPLATE, CONFIG, TOKENIZER, TOKENIZER_CONFIG, parse_object, read_bytes},
        gguf::token_types::{BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED},
    },
};

/// The tokenizer's part of a file's metadata.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// The keys `tokenizer.*`.
    pub metadata: Metadata,
}

/// The files of a tokenizer, parsed.
#[derive(Debug)]
pub struct TokenizerFiles {
    tokenizer: Map<String, Value>,
    tokenizer_config: Map<String, Value>,
    config: Map<String, Value>,
    chat_template: Option<String>,
    path: String,
}

/// The kinds of tokenizers that llama.cpp has and moerge can describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerKind {
    /// BPE on bytes, as GPT-2's (`gpt2`). Its pre-tokenizer has a name of its own.
    ByteLevel,
    /// BPE on characters with bytes for what is not in the vocabulary, as SentencePiece's in Llama 2 (`llama`).
    SentencePiece,
}

/// The key of the tokens.
const TOKENS: &str = "tokenizer.ggml.tokens";

/// The special tokens that have a key, by their names in `tokenizer_config.json`.
const SPECIAL: [(&str, &str); 7] = [
    ("bos", "bos_token_id"),
    ("eos", "eos_token_id"),
    ("unk", "unknown_token_id"),
    ("sep", "seperator_token_id"),
    ("pad", "padding_token_id"),
    ("cls", "cls_token_id"),
    ("mask", "mask_token_id"),
];

/// A space at the beginning of a word in SentencePiece's vocabularies.
const SPACE: char = '\u{2581}';

impl Vocabulary {
    /// Whether it has a token.
    pub fn has(&self, token: &str) -> bool {
        let tokens = self.metadata.iter().find(|(key, _)| key == TOKENS).map(|(_, value)| value);
        matches!(tokens, Some(GgufValue::Array(_, tokens)) if tokens.iter().any(|own| own.as_str() == Some(token)))
    }
}

impl TokenizerFiles {
    /// Reads those in `dir`.
    ///
    /// # Errors
    /// `tokenizer.json` is not there, or a file is not JSON.
    pub fn open(storage: &dyn ReadStorage, dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            storage.facts(&path).is_ok().then(|| read_bytes(storage, &path)).transpose()
        };
        Self::new(dir, read)
    }

    /// Those that `read` gives by their names; `dir` is for messages.
    ///
    /// # Errors
    /// There is no `tokenizer.json`, or a file is not JSON.
    pub fn new(dir: &Path, read: impl Fn(&str) -> Result<Option<Vec<u8>>>) -> Result<Self> {
        let path = dir.join(TOKENIZER);
        let tokenizer = read(TOKENIZER)?.ok_or_else(|| {
            Error::input(format!("{} does not exist", path.display()))
                .hint("a GGUF file holds the tokenizer; transformers writes tokenizer.json with save_pretrained")
        })?;
        let object = |name: &str, bytes: &[u8]| parse_object(bytes, &dir.join(name));
        let optional = |name: &str| match read(name)? {
            Some(bytes) => object(name, &bytes),
            None => Ok(Map::new()),
        };
        let (tokenizer, tokenizer_config) = (object(TOKENIZER, &tokenizer)?, optional(TOKENIZER_CONFIG)?);
        let config = optional(CONFIG)?;
        let chat_template = match (tokenizer_config.get("chat_template"), read(CHAT_TEMPLATE)?) {
            (Some(Value::String(template)), _) => Some(template.clone()),
            (_, Some(template)) => Some(String::from_utf8_lossy(&template).into_owned()),
            (Some(Value::Array(templates)), _) => default_template(templates),
            _ => None,
        };
        Ok(Self { tokenizer, tokenizer_config, config, chat_template, path: path.display().to_string() })
    }

    /// The kind of the tokenizer.
    ///
    /// # Errors
    /// GGUF does not support the kind.
    pub fn kind(&self) -> Result<TokenizerKind> {
        let model = self.tokenizer.get("model").and_then(Value::as_object);
        let kind = model.and_then(|model| model.get("type")).and_then(Value::as_str).unwrap_or("BPE");
        if kind != "BPE" {
            return Err(Error::input(format!("{}: a tokenizer of type {kind} cannot be exported to GGUF", self.path))
                .unsupported()
                .hint("BPE tokenizers can, those of Llama, Mistral, Qwen and Phi among them"));
        }
        let byte_fallback = model.and_then(|model| model.get("byte_fallback")) == Some(&Value::Bool(true));
        Ok(if byte_fallback { TokenizerKind::SentencePiece } else { TokenizerKind::ByteLevel })
    }

    /// llama.cpp's name of the pre-tokenizer, from the tokens of [`CHECK_TEXT`](super::CHECK_TEXT) or, where llama.cpp
    /// does not know these, from the pattern that it splits by.
    ///
    /// # Errors
    /// llama.cpp has no pre-tokenizer like it.
    pub fn pre_tokenizer(&self, tokens_of_check_text: &[u32]) -> Result<&'static str> {
        let hash = match super::pre_tokenizer(tokens_of_check_text) {
            Ok(name) => return Ok(name),
            Err(hash) => hash,
        };
        let ignores =
            self.tokenizer.get("model").and_then(|model| model.get("ignore_merges")) == Some(&Value::Bool(true));
        let own = self.tokenizer.get("pre_tokenizer").unwrap_or(&Value::Null);
        super::pre_tokenizer_by_pattern(own, ignores).ok_or_else(|| {
            Error::input(format!("{}: llama.cpp has no pre-tokenizer that is known to be like this one", self.path))
                .fact("hash", hash)
                .fact("pre_tokenizer", crate::suggest::shorten(&own.to_string()))
                .cause(Cause::UnknownPreTokenizer)
        })
    }

    /// The metadata for a model whose embeddings have `rows`. `pre_tokenizer` is llama.cpp's name of it.
    ///
    /// # Errors
    /// The tokenizer has no vocabulary, or tokens beyond the embeddings.
    pub fn vocabulary(&self, rows: usize, pre_tokenizer: &str) -> Result<Vocabulary> {
        let kind = self.kind()?;
        let (tokens, types) = self.tokens(kind, rows)?;
        let (model, pre) = match kind {
            TokenizerKind::ByteLevel => ("gpt2", pre_tokenizer),
            TokenizerKind::SentencePiece => ("llama", "default"),
        };
        let text = |text: &str| GgufValue::String(text.to_owned());
        let mut metadata = vec![
            ("tokenizer.ggml.model".to_owned(), text(model)),
            ("tokenizer.ggml.pre".to_owned(), text(pre)),
            (TOKENS.to_owned(), GgufValue::strings(tokens.iter().map(String::as_str))),
        ];
        let merges = self.merges();
        if kind == TokenizerKind::SentencePiece {
            metadata.push(("tokenizer.ggml.scores".to_owned(), GgufValue::floats(scores(&tokens, &merges))));
        }
        metadata.push(("tokenizer.ggml.token_type".to_owned(), GgufValue::ints(types)));
        if kind == TokenizerKind::ByteLevel {
            let joined = merges.iter().map(|(left, right)| format!("{} {}", encoded(left), encoded(right)));
            metadata.push(("tokenizer.ggml.merges".to_owned(), GgufValue::strings(joined)));
        }
        metadata.extend(self.special_tokens(rows));
        if kind == TokenizerKind::SentencePiece {
            let key = "tokenizer.ggml.add_space_prefix".to_owned();
            metadata.push((key, GgufValue::Bool(self.adds_space_prefix())));
        }
        if let Some(template) = &self.chat_template {
            metadata.push(("tokenizer.chat_template".to_owned(), text(template)));
        }
        Ok(Vocabulary { metadata })
    }

    fn added(&self) -> impl Iterator<Item = (usize, &str, bool)> {
        let added = self.tokenizer.get("added_tokens").and_then(Value::as_array);
        added.into_iter().flatten().filter_map(|token| {
            let id = usize::try_from(token.get("id")?.as_u64()?).ok()?;
            Some((id, token.get("content")?.as_str()?, token.get("special") == Some(&Value::Bool(true))))
        })
    }

    /// All tokens by id, with their types. Ids without a token get names that nothing else has.
    fn tokens(&self, kind: TokenizerKind, rows: usize) -> Result<(Vec<String>, Vec<i32>)> {
        let mut tokens: Vec<Option<(String, i32)>> = vec![None; rows];
        let vocabulary = self.tokenizer.get("model").and_then(|model| model.get("vocab")).and_then(Value::as_object);
        let vocabulary = vocabulary.ok_or_else(|| Error::input(format!("{} has no vocabulary", self.path)))?;
        let beyond = |id: u64, token: &str| {
            Error::input(format!("{}: token {id}, {token:?}, has no row in the embeddings", self.path))
                .fact("rows", rows.to_string())
                .hint("readers of GGUF files refuse such a token; take it out of the tokenizer")
        };
        for (token, id) in vocabulary {
            let id = id.as_u64().ok_or_else(|| Error::input(format!("{}: {token:?} has an invalid id", self.path)))?;
            let place = usize::try_from(id).ok().and_then(|id| tokens.get_mut(id)).ok_or_else(|| beyond(id, token))?;
            let is_byte = kind == TokenizerKind::SentencePiece && is_byte(token);
            *place = Some((token.clone(), if is_byte { BYTE } else { NORMAL }));
        }
        for (id, token, special) in self.added() {
            let place = tokens.get_mut(id).ok_or_else(|| beyond(id as u64, token))?;
            let own = if special || looks_special(token) {
                (token.to_owned(), CONTROL)
            } else {
                // Readers look for these in text, where spaces are spaces.
                (token.replace(SPACE, " "), USER_DEFINED)
            };
            *place = Some(own);
        }
        if kind == TokenizerKind::SentencePiece
            && let Some((_, of)) = self.named("unk").and_then(|id| tokens.get_mut(id)).and_then(Option::as_mut)
        {
            *of = UNKNOWN;
        }
        let pad = |(id, token): (usize, Option<(String, i32)>)| token.unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED));
        Ok(tokens.into_iter().enumerate().map(pad).unzip())
    }

    /// The merges in order, in either spelling of `tokenizer.json`.
    fn merges(&self) -> Vec<(String, String)> {
        let merges = self.tokenizer.get("model").and_then(|model| model.get("merges")).and_then(Value::as_array);
        let pair = |merge: &Value| match merge {
            Value::String(text) => text.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())),
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(left), Value::String(right)] => Some((left.clone(), right.clone())),
                _ => None,
            },
            _ => None,
        };
        merges.into_iter().flatten().filter_map(pair).collect()
    }

    /// The id of a special token that `tokenizer_config.json` names, or `config.json` numbers.
    fn named(&self, which: &str) -> Option<usize> {
        let content = match self.tokenizer_config.get(&format!("{which}_token")) {
            Some(Value::String(token)) => Some(token.as_str()),
            Some(Value::Object(token)) => token.get("content").and_then(Value::as_str),
            _ => None,
        };
        let by_name = content.and_then(|content| self.added().find(|(_, token, _)| *token == content));
        let number = || self.config.get(&format!("{which}_token_id"))?.as_u64().and_then(|id| usize::try_from(id).ok());
        by_name.map(|(id, _, _)| id).or_else(number)
    }

    fn special_tokens(&self, rows: usize) -> Metadata {
        let mut metadata = Metadata::new();
        for (which, key) in SPECIAL {
            if let Some(id) = self.named(which).filter(|id| *id < rows) {
                metadata.push((format!("tokenizer.ggml.{key}"), GgufValue::Uint32(id as u32)));
            }
        }
        for which in ["bos", "eos"] {
            if let Some(adds) = self.adds(which) {
                metadata.push((format!("tokenizer.ggml.add_{which}_token"), GgufValue::Bool(adds)));
            }
        }
        metadata
    }

    /// Whether bos or eos is put around a text: as the post-processor has it, else as `tokenizer_config.json` says.
    fn adds(&self, which: &str) -> Option<bool> {
        let configured = || self.tokenizer_config.get(&format!("add_{which}_token")).and_then(Value::as_bool);
        let processor = self.tokenizer.get("post_processor").filter(|processor| !processor.is_null());
        let Some(processor) = processor else { return configured() };
        let list = processor.get("processors").and_then(Value::as_array);
        let all = list.map_or_else(|| vec![processor], |list| list.iter().collect());
        let template = all.iter().find(|own| own.get("type").and_then(Value::as_str) == Some("TemplateProcessing"));
        if let Some(single) = template.and_then(|template| template.get("single")).and_then(Value::as_array) {
            let at = if which == "bos" { single.first() } else { single.last() };
            let token =
                at.and_then(|at| at.get("SpecialToken")).and_then(|token| token.get("id")).and_then(Value::as_str);
            let named = self.named(which).and_then(|id| self.added().find(|(own, _, _)| *own == id));
            let is_it = single.len() > 1 && token.is_some() && token == named.map(|(_, token, _)| token);
            return if is_it { Some(true) } else { configured().or(Some(false)) };
        }
        let is_byte_level = all.iter().any(|own| own.get("type").and_then(Value::as_str) == Some("ByteLevel"));
        if is_byte_level { Some(false) } else { configured() }
    }

    /// What llama.cpp splits otherwise.
    pub fn warning(&self) -> Option<String> {
        let is_first_only = |part: &Value| part.get("prepend_scheme").and_then(Value::as_str) == Some("first");
        let differs = self.kind().is_ok_and(|kind| kind == TokenizerKind::SentencePiece)
            && self.adds_space_prefix()
            && self.spaces().any(is_first_only);
        differs.then(|| {
            "the tokenizer puts a space before the first word of a text only, and llama.cpp also after special tokens: \
             it may split chats into other tokens"
                .to_owned()
        })
    }

    /// Whether a text gets a space before its first word.
    fn adds_space_prefix(&self) -> bool {
        let given = self.tokenizer_config.get("add_prefix_space").and_then(Value::as_bool);
        given.unwrap_or_else(|| self.spaces().next().is_some())
    }

    /// The parts of the tokenizer that put a space before words.
    fn spaces(&self) -> impl Iterator<Item = &Value> {
        let parts = |node: &str, list: &str| {
            let node = self.tokenizer.get(node);
            let parts = node.and_then(|node| node.get(list)).and_then(Value::as_array);
            parts.map_or_else(|| node.into_iter().collect(), |parts| parts.iter().collect::<Vec<_>>())
        };
        let all = [parts("normalizer", "normalizers"), parts("pre_tokenizer", "pretokenizers")].concat();
        all.into_iter().filter(|part| match part.get("type").and_then(Value::as_str) {
            Some("Prepend") => true,
            Some("Metaspace") => part.get("prepend_scheme").and_then(Value::as_str) != Some("never"),
            _ => false,
        })
    }
}

/// llama.cpp's SentencePiece merges the pair whose token has the largest score: the rank of the merge that makes it,
/// negative. A token of several characters that no merge makes comes after all others.
fn scores(tokens: &[String], merges: &[(String, String)]) -> Vec<f32> {
    let mut ranks = HashMap::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    let score = |token: &String| match ranks.get(token) {
        Some(rank) => -(*rank as f32),
        None if token.chars().nth(1).is_none() => 0.0,
        None => -(merges.len() as f32) - 1.0,
    };
    tokens.iter().map(score).collect()
}

/// The one of several templates that is called `default`.
fn default_template(templates: &[Value]) -> Option<String> {
    let default = |template: &&Value| template.get("name").and_then(Value::as_str) == Some("default");
    let template = templates.iter().find(default)?;
    template.get("template").and_then(Value::as_str).map(str::to_owned)
}

/// A part of a merge as GPT-2 spells bytes, where some tokenizers have plain spaces.
fn encoded(part: &str) -> String {
    part.replace(' ', "\u{120}")
}

fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Tokens that some models forget to mark as special.
fn looks_special(token: &str) -> bool {
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&token)
        || token.starts_with("<|") && token.ends_with("|>")
        || token.starts_with("<\u{ff5c}") && token.ends_with("\u{ff5c}>")
        || token.starts_with("<unused") && token.ends_with('>')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn files(tokenizer: &Value, config: &Value) -> TokenizerFiles {
        let read = |name: &str| {
            let of = [(TOKENIZER, tokenizer), (TOKENIZER_CONFIG, config)];
            Ok(of.into_iter().find(|(own, _)| *own == name).map(|(_, value)| value.to_string().into_bytes()))
        };
        TokenizerFiles::new(Path::new("model"), read).unwrap()
    }

    /// llama.cpp has one way to put spaces before words.
    #[test]
    fn another_rule_for_spaces_is_warned_of() {
        let sentencepiece = json!({ "type": "BPE", "byte_fallback": true, "vocab": {}, "merges": [] });
        let metaspace = |scheme: &str| {
            let pre_tokenizer = json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme });
            json!({ "model": sentencepiece, "pre_tokenizer": pre_tokenizer })
        };
        let prepend = json!({ "normalizers": [{ "type": "Prepend", "prepend": SPACE }], "type": "Sequence" });
        let prepend = json!({ "model": sentencepiece, "normalizer": prepend });
        for (tokenizer, adds, warns) in [
            (metaspace("first"), true, true),
            (metaspace("always"), true, false),
            (metaspace("never"), false, false),
            (prepend, true, false),
        ] {
            let files = files(&tokenizer, &json!({}));
            assert_eq!((files.adds_space_prefix(), files.warning().is_some()), (adds, warns), "{tokenizer}");
        }
        let without = files(&metaspace("first"), &json!({ "add_prefix_space": false }));
        assert_eq!((without.adds_space_prefix(), without.warning()), (false, None));
        let byte_level = json!({ "model": { "type": "BPE", "vocab": {} }, "pre_tokenizer": { "type": "ByteLevel" } });
        assert_eq!(files(&byte_level, &json!({})).warning(), None);
    }
}
