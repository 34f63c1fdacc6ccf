//! `tokenizer.json` and the files beside it, from a file's metadata.

use std::collections::{HashMap, HashSet};

use moerge_checkpoint::gguf::GgufFile;
use serde_json::{Map, Value, json};

use super::{
    metadata::Facts,
    pre_tokenizers::PreTokenizer,
    token_types::{BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED},
};
use crate::error::{Error, Result};

/// The files of a tokenizer.
pub(super) struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer: Value,
    /// `tokenizer_config.json`.
    pub config: Value,
    /// `generation_config.json`.
    pub generation: Value,
}

/// Names of special tokens in `tokenizer_config.json`, and their keys.
const SPECIAL: [(&str, &str); 4] = [
    ("bos_token", "bos_token_id"),
    ("eos_token", "eos_token_id"),
    ("unk_token", "unknown_token_id"),
    ("pad_token", "padding_token_id"),
];

/// Tokens that end an answer whether or not the metadata says so, as llama.cpp has them.
const ENDS: [&str; 12] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    "<end_of_utterance>",
];

/// The `tokenizer.json` of a file, which need not hold a model.
///
/// # Errors
/// It has no tokenizer, or one that moerge cannot describe.
pub fn tokenizer_json(file: &GgufFile) -> Result<Value> {
    Ok(tokenizer(Facts::new(file)?)?.tokenizer)
}

/// The files of the tokenizer that the metadata describes.
///
/// # Errors
/// It is of a kind that moerge cannot describe, or the metadata is damaged.
pub(super) fn tokenizer(facts: Facts<'_>) -> Result<TokenizerFiles> {
    let path = facts.path().display();
    let broken = |what: &str| Error::input(format!("{path}: {what}"));
    let tokens = facts.strings("tokenizer.ggml.tokens")?.ok_or_else(|| broken("it has no tokenizer"))?;
    let types = facts.numbers("tokenizer.ggml.token_type")?.unwrap_or_default();
    if !types.is_empty() && types.len() != tokens.len() {
        return Err(broken("tokens and their types differ in number"));
    }
    let types: Vec<i32> = (0..tokens.len()).map(|id| types.get(id).map_or(NORMAL, |of| *of as i32)).collect();
    let vocabulary = Vocabulary::new(&tokens, &types);

    let kind = facts.text("tokenizer.ggml.model")?.unwrap_or_default();
    let parts = match kind {
        "gpt2" => byte_level(facts, &vocabulary)?,
        "llama" => sentence_piece(facts, &vocabulary)?,
        _ => {
            return Err(Error::input(format!("{path}: a tokenizer of the kind `{kind}` is not supported"))
                .unsupported()
                .hint("`gpt2` and `llama` are, those of Llama, Mistral, Qwen and Phi among them"));
        }
    };
    let special = |key: &str| {
        let id = facts.count(&format!("tokenizer.ggml.{key}"))?;
        let id = id.and_then(|id| usize::try_from(id).ok());
        Ok::<_, Error>(id.and_then(|id| Some((id, *tokens.get(id)?))))
    };
    let adds_bos = facts.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(parts.adds_bos);
    let adds_eos = facts.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    let bos = special("bos_token_id")?.filter(|_| adds_bos);
    let eos = special("eos_token_id")?.filter(|_| adds_eos);
    let mut added = vocabulary.added();
    added.sort_by_key(|token| token["id"].as_u64());
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": around(bos, eos).unwrap_or(parts.post_processor),
        "decoder": parts.decoder,
        "model": parts.model,
    });

    let mut config = Map::new();
    for (name, key) in SPECIAL {
        if let Some((_, token)) = special(key)? {
            config.insert(name.to_owned(), json!(token));
        }
    }
    config.insert("add_bos_token".to_owned(), json!(adds_bos));
    config.insert("add_eos_token".to_owned(), json!(adds_eos));
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
    if let Some(template) = facts.text("tokenizer.chat_template")? {
        config.insert("chat_template".to_owned(), json!(template));
    }

    let mut ends = Vec::new();
    for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        ends.extend(special(key)?.map(|(id, _)| id));
    }
    ends.extend(ENDS.iter().filter_map(|end| vocabulary.ids.get(end).copied()));
    let mut seen = HashSet::new();
    ends.retain(|id| seen.insert(*id));
    let mut generation = Map::new();
    generation.insert("eos_token_id".to_owned(), json!(ends));
    for key in ["bos_token_id", "padding_token_id"] {
        if let Some((id, _)) = special(key)? {
            generation.insert(key.replace("padding", "pad"), json!(id));
        }
    }
    Ok(TokenizerFiles { tokenizer, config: Value::Object(config), generation: Value::Object(generation) })
}

/// The tokens of a file by name. Where two have one name, the first has it.
struct Vocabulary<'a> {
    tokens: &'a [&'a str],
    types: &'a [i32],
    ids: HashMap<&'a str, usize>,
}

impl<'a> Vocabulary<'a> {
    fn new(tokens: &'a [&'a str], types: &'a [i32]) -> Self {
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            ids.entry(*token).or_insert(id);
        }
        Self { tokens, types, ids }
    }

    /// `vocab` of the model: every id has a name, which a later token of the same name loses.
    fn to_json(&self) -> Value {
        let name = |(id, token): (usize, &&str)| match self.ids.get(token) {
            Some(first) if *first == id => ((*token).to_owned(), json!(id)),
            _ => (format!("[duplicate {id}]"), json!(id)),
        };
        Value::Object(self.tokens.iter().enumerate().map(name).collect())
    }

    /// The tokens that are found in text before anything is split.
    fn added(&self) -> Vec<Value> {
        let all = self.ids.iter().map(|(token, id)| (*id, *token, self.types[*id]));
        let added = all.filter(|(_, token, of)| matches!(*of, UNKNOWN | CONTROL | USER_DEFINED) && !token.is_empty());
        let entry = |(id, token, of): (usize, &str, i32)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": of != USER_DEFINED,
            })
        };
        added.map(entry).collect()
    }

    fn has(&self, token: &str) -> bool {
        self.ids.contains_key(token)
    }
}

/// The parts of `tokenizer.json` that depend on the kind.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Value,
    adds_bos: bool,
}

fn byte_level(facts: Facts<'_>, vocabulary: &Vocabulary<'_>) -> Result<Parts> {
    let name = facts.text("tokenizer.ggml.pre")?.unwrap_or("default");
    let pre = PreTokenizer::named(name).ok_or_else(|| {
        let path = facts.path().display();
        let known = PreTokenizer::names().collect::<Vec<_>>().join(", ");
        Error::input(format!("{path}: the pre-tokenizer `{name}` is not known"))
            .unsupported()
            .hint(format!("known are {known}"))
    })?;
    // A space may only be the first character of a part.
    let split = |merge: &str| {
        let after = merge.chars().next()?.len_utf8();
        let space = after + merge.get(after..)?.find(' ')?;
        Some((merge[..space].to_owned(), merge[space + 1..].to_owned()))
    };
    let merges = facts.strings("tokenizer.ggml.merges")?.unwrap_or_default();
    let merges = merges.into_iter().filter_map(split);
    Ok(Parts {
        normalizer: Value::Null,
        pre_tokenizer: pre.to_json(),
        post_processor: json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true }),
        decoder: json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true }),
        model: bpe(vocabulary, merges, json!({ "ignore_merges": pre.ignores_merges })),
        adds_bos: pre.adds_bos,
    })
}

fn sentence_piece(facts: Facts<'_>, vocabulary: &Vocabulary<'_>) -> Result<Parts> {
    let scores = facts.numbers("tokenizer.ggml.scores")?.unwrap_or_default();
    if scores.len() != vocabulary.tokens.len() {
        return Err(facts.wrong("tokenizer.ggml.scores", "a number for each token"));
    }
    let prefix = facts.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut normalizers = vec![json!({ "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" })];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": "\u{2581}" }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let unknown = vocabulary.types.iter().position(|of| *of == UNKNOWN);
    let more = json!({
        "unk_token": unknown.map(|id| vocabulary.tokens[id]),
        "fuse_unk": true,
        "byte_fallback": true,
    });
    Ok(Parts {
        normalizer: json!({ "type": "Sequence", "normalizers": normalizers }),
        pre_tokenizer: Value::Null,
        post_processor: Value::Null,
        decoder: json!({ "type": "Sequence", "decoders": decoders }),
        model: bpe(vocabulary, merges_by_score(vocabulary, &scores), more),
        adds_bos: true,
    })
}

/// The merges of a SentencePiece vocabulary, which has scores instead: of two neighbours, the pair whose token has the
/// largest score is merged first.
fn merges_by_score(vocabulary: &Vocabulary<'_>, scores: &[f64]) -> impl Iterator<Item = (String, String)> + use<> {
    let mut merges = Vec::new();
    for (token, id) in &vocabulary.ids {
        if matches!(vocabulary.types[*id], UNKNOWN | CONTROL | USER_DEFINED | UNUSED | BYTE) {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if vocabulary.has(left) && vocabulary.has(right) {
                merges.push((*id, at, left.to_owned(), right.to_owned()));
            }
        }
    }
    merges.sort_by(|a, b| scores[b.0].total_cmp(&scores[a.0]).then(a.0.cmp(&b.0)).then(a.1.cmp(&b.1)));
    merges.into_iter().map(|(_, _, left, right)| (left, right))
}

/// The BPE model, with `more` of its options.
fn bpe(vocabulary: &Vocabulary<'_>, merges: impl Iterator<Item = (String, String)>, more: Value) -> Value {
    // llama.cpp skips a merge whose parts or result are no tokens; other readers refuse it.
    let usable = |(left, right): &(String, String)| {
        vocabulary.has(left) && vocabulary.has(right) && vocabulary.has(&format!("{left}{right}"))
    };
    let merges: Vec<Value> = merges.filter(usable).map(|(left, right)| json!([left, right])).collect();
    let mut model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
    });
    if let (Some(model), Value::Object(more)) = (model.as_object_mut(), more) {
        model.extend(more);
        model.insert("vocab".to_owned(), vocabulary.to_json());
        model.insert("merges".to_owned(), Value::Array(merges));
    }
    model
}

/// The post-processor that puts bos before a text and eos after it; `None` where there is neither.
fn around(bos: Option<(usize, &str)>, eos: Option<(usize, &str)>) -> Option<Value> {
    let special = |token: &str| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let sequence = |name: &str, of: u32| json!({ "Sequence": { "id": name, "type_id": of } });
    let marks: Vec<(usize, &str)> = [bos, eos].into_iter().flatten().collect();
    if marks.is_empty() {
        return None;
    }
    let text = |name: &str, of: u32| {
        let bos = bos.map(|(_, token)| special(token));
        let eos = eos.map(|(_, token)| special(token));
        bos.into_iter().chain([sequence(name, of)]).chain(eos).collect::<Vec<_>>()
    };
    let tokens: Map<String, Value> = marks
        .iter()
        .map(|(id, token)| ((*token).to_owned(), json!({ "id": token, "ids": [id], "tokens": [token] })))
        .collect();
    let pair = [text("A", 0), text("B", 1)].concat();
    Some(json!({
        "type": "TemplateProcessing",
        "single": text("A", 0),
        "pair": pair,
        "special_tokens": tokens,
    }))
}
