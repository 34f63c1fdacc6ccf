//! A model's tokenizer: text to tokens and back, with the special tokens that the files beside it name.
//!
//! Prompts of recipes are tokenized as mergekit does it: the bos token, where the tokenizer has one, stands before the
//! text, and nothing else is added.

mod check;

use std::path::{Path, PathBuf};

use moerge_checkpoint::ReadStorage;
use serde_json::Value;
use tokenizers::AddedToken;

use crate::special_tokens::{SpecialTokens, object};
use check::{Growth, guarded};
use moerge_core::{
    error::{Error, Result},
    model::{
        files::{SENTENCEPIECE, SPECIAL_TOKENS_MAP, TEKKEN, TOKENIZER, TOKENIZER_CONFIG, read_bytes},
        tokenizer_overrides::TokenizerOverrides,
    },
    suggest::shorten,
};

/// Maximum size of a text in bytes, after it has grown in the tokenizer.
const MAX_TEXT: usize = 256 << 20;
/// The same for tokenizers with more than [`ORDINARY_GROWTH`]: each byte takes about 40 bytes of memory.
const MAX_GROWN_TEXT: usize = 16 << 20;
/// Maximum growth of ordinary tokenizers, which replace a space by three bytes, perhaps twice.
const ORDINARY_GROWTH: f64 = 16.0;

/// Maximum tokens per byte of grown text: compatibility forms may lengthen it further.
const TOKENS_PER_BYTE: f64 = 11.0;
/// Maximum number of special tokens added to any text.
const TOKENS_OF_ANY_TEXT: f64 = 1024.0;

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    /// Precedes a prompt; may be empty.
    bos: String,
    /// The end-of-text token, if the tokenizer has one.
    eos: Option<u32>,
    /// Maximum text size in bytes.
    max_text: usize,
    /// How much text may grow.
    growth: f64,
    /// Rows of the embeddings that its tokens are for, where they are known.
    rows: Option<usize>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in `dir`, and its special tokens from `tokenizer_config.json` and
    /// `special_tokens_map.json`.
    ///
    /// # Errors
    /// There is no `tokenizer.json`, or it cannot be used.
    pub fn open(storage: &dyn ReadStorage, dir: &Path) -> Result<Self> {
        Self::open_with(storage, dir, &TokenizerOverrides::default())
    }

    /// The same, with what replaces files in `dir`.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(storage: &dyn ReadStorage, dir: &Path, overrides: &TokenizerOverrides) -> Result<Self> {
        let path = dir.join(TOKENIZER);
        let bytes = match &overrides.vocabulary {
            Some(merged) => merged.to_text().into_bytes(),
            None if storage.facts(&path).is_err() => return Err(without_tokenizer_json(storage, dir)),
            None => read_bytes(storage, &path)?,
        };
        let broken = |why: String| {
            Error::input(format!("{} cannot be used: {why}", path.display()))
                .hint("copy it again from the original model")
        };
        let (mut inner, growth) = load(&bytes).map_err(broken)?;
        let bos = bos_token(storage, dir)?;
        if let Some(token) = &bos {
            // Without this a bos token that is only named in the config would be taken for text.
            let known = inner.get_added_tokens_decoder().values().any(|known| known.content == token.content);
            if !known {
                guarded(|| inner.add_special_tokens([token.clone()])).map_err(broken)?;
            }
        }
        let eos = SpecialTokens::open(storage, dir)?.get("eos_token").and_then(|eos| inner.token_to_id(eos));
        let most = if growth.text > ORDINARY_GROWTH { MAX_GROWN_TEXT } else { MAX_TEXT };
        let max_text = (most as f64 / growth.text) as usize;
        let bos = bos.map(|token| token.content).unwrap_or_default();
        Ok(Self { path, inner, bos, eos, max_text, growth: growth.text, rows: None })
    }

    /// The tokenizer of a model whose embeddings have `rows` rows: a text with a token beyond them is an error.
    #[must_use]
    pub fn with_rows(self, rows: usize) -> Self {
        Self { rows: Some(rows), ..self }
    }

    /// The end-of-text token: `eos_token` of the tokenizer's files. `None` if they name none, or one that is not in the
    /// vocabulary.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Tokenizes as transformers does, including the special tokens that the tokenizer adds.
    ///
    /// # Errors
    /// The text is too long, the tokenizer fails at it, or a token has no embedding.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, true)
    }

    /// Tokenizes a text that already contains its special tokens, such as a rendered chat template.
    ///
    /// # Errors
    /// As for [`encode`](Self::encode).
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, false)
    }

    /// The same with, for each token, the bytes of `text` up to its end; a token that is not part of the text, such as
    /// the bos token, ends where the one before it does.
    ///
    /// # Errors
    /// As for [`encode`](Self::encode).
    pub fn encode_with_ends(&self, text: &str) -> Result<(Vec<u32>, Vec<usize>)> {
        self.check_length(text)?;
        let encoded = guarded(|| self.inner.encode(text, true)).map_err(|why| self.cannot("encode the text", &why))?;
        self.check_tokens(text, encoded.get_ids())?;
        let mut end = 0;
        let ends = encoded.get_offsets().iter().map(|(_, offset)| {
            // A character of several tokens may give its end to each of them.
            end = end.max((*offset).min(text.len()));
            end
        });
        Ok((encoded.get_ids().to_vec(), ends.collect()))
    }

    fn encode_with(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        self.check_length(text)?;
        let encoded = guarded(|| self.inner.encode_fast(text, add_special));
        let ids = encoded.map_err(|why| self.cannot("encode the text", &why))?.get_ids().to_vec();
        self.check_tokens(text, &ids)?;
        Ok(ids)
    }

    /// Every token has an embedding. The number of tokens is a safety net in addition to the checks of the file.
    fn check_tokens(&self, text: &str, ids: &[u32]) -> Result<()> {
        let (tokens, bytes) = (ids.len(), text.len());
        let most = bytes as f64 * self.growth * TOKENS_PER_BYTE + TOKENS_OF_ANY_TEXT;
        if tokens as f64 > most {
            return Err(self.cannot("encode the text", &format!("it makes {tokens} tokens from {bytes} bytes")));
        }
        let Some(rows) = self.rows else { return Ok(()) };
        let Some(id) = ids.iter().find(|id| **id as usize >= rows) else { return Ok(()) };
        let path = self.path.display();
        let message = format!("{path}: the tokenizer gave token {id}, but the model's embeddings have {rows} rows");
        Err(Error::input(message)
            .fact("token", format!("{:?}", shorten(&self.id_to_token(*id).unwrap_or_default())))
            .hint("tokenizer.json and config.json must be of the same model"))
    }

    fn check_length(&self, text: &str) -> Result<()> {
        if text.len() > self.max_text {
            let (found, most) = (text.len(), self.max_text);
            return Err(
                Error::input(format!("a text has {found} bytes, more than the limit of {most}")).hint("split it")
            );
        }
        Ok(())
    }

    fn cannot(&self, what: &str, why: &str) -> Error {
        Error::input(format!("{} cannot {what}: {why}", self.path.display()))
            .hint("copy it again from the original model")
    }

    /// The text of `tokens`, special ones left out.
    ///
    /// # Errors
    /// The tokenizer fails at them.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        guarded(|| self.inner.decode(tokens, true)).map_err(|why| self.cannot("decode the tokens", &why))
    }

    /// A token as the vocabulary spells it: marks by their names, text in the tokenizer's own alphabet.
    pub fn id_to_token(&self, token: u32) -> Option<String> {
        self.inner.id_to_token(token)
    }

    /// The tokens that are marks rather than text: those added to the vocabulary as special, and EOS.
    pub fn special_tokens(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let mut ids: Vec<u32> = added.iter().filter(|(_, t)| t.special).map(|(id, _)| *id).chain(self.eos).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Tokens in the vocabulary, those added to it included.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The token with the largest id, which may exceed the rows of a model's embeddings.
    pub fn last_token(&self) -> Option<(u32, String)> {
        let last = self.inner.get_vocab(true).into_iter().map(|(token, id)| (id, token));
        last.max()
    }

    /// What a text begins with: bos; where the tokenizer has none, the first of its special tokens (end of text in
    /// GPT's and Qwen's vocabularies, which stands between texts), or else a line break.
    ///
    /// # Errors
    /// As for [`encode_prompt`](Self::encode_prompt).
    pub fn beginning(&self) -> Result<Vec<u32>> {
        if !self.bos.is_empty() {
            return self.encode_prompt("");
        }
        match self.special_tokens().first() {
            Some(token) => Ok(vec![*token]),
            None => self.encode_prompt("\n"),
        }
    }

    /// What a text without a context is scored after, as in the lm-evaluation-harness: bos, or else eos.
    ///
    /// # Errors
    /// The tokenizer has neither.
    pub fn prefix_token(&self) -> Result<u32> {
        let bos = self.inner.token_to_id(&self.bos).filter(|_| !self.bos.is_empty());
        bos.or(self.eos).ok_or_else(|| {
            Error::input(format!("{} names neither a bos nor an eos token", self.path.display()))
                .hint("a text without a context is scored after one of them; set `eos_token` in tokenizer_config.json")
        })
    }

    /// The tokens of a prompt, the bos token first. An empty prompt has none where the tokenizer has no bos token.
    ///
    /// # Errors
    /// As for [`encode`](Self::encode).
    pub fn prompt_tokens(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(&format!("{}{text}", self.bos), false)
    }

    /// The tokens of a prompt, the bos token first; at least one.
    ///
    /// # Errors
    /// As for [`encode`](Self::encode), or there are no tokens.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let encoded = self.prompt_tokens(text)?;
        if encoded.is_empty() {
            return Err(Error::input(format!("the prompt {text:?} has no tokens"))
                .hint("this model's tokenizer has no bos token, so an empty prompt has no tokens"));
        }
        Ok(encoded)
    }

    /// The tokens of a text of any length, in sequences of at most `window` tokens that each begin with the bos token.
    ///
    /// # Errors
    /// As for [`encode_prompt`](Self::encode_prompt).
    pub fn encode_windows(&self, text: &str, window: usize) -> Result<Vec<Vec<u32>>> {
        let tokens = self.encode_prompt(text)?;
        let (bos, text) = tokens.split_at(usize::from(!self.bos.is_empty()).min(tokens.len()));
        if text.is_empty() {
            return Ok(vec![tokens]);
        }
        let room = window.saturating_sub(bos.len()).max(1);
        Ok(text.chunks(room).map(|part| [bos, part].concat()).collect())
    }
}

/// Why the bytes of a `tokenizer.json` cannot be used.
pub fn problem(bytes: &[u8]) -> Option<String> {
    load(bytes).err()
}

/// Loads a `tokenizer.json`, with the growth that it may cause.
fn load(bytes: &[u8]) -> Result<(tokenizers::Tokenizer, Growth), String> {
    let growth = check::growth(bytes)?;
    let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(bytes))?;
    // Truncation and padding are saved with the file, but prompts are neither cut nor padded.
    guarded(|| inner.with_padding(None).with_truncation(None).map(drop))?;
    let longest = inner.get_vocab(true).keys().map(String::len).max().unwrap_or(0);
    if let Some(problem) = check::too_long(longest, growth) {
        return Err(problem);
    }
    // Broken components fail on the first word.
    for sample in ["Hello, world 1", "é 日本", ""] {
        let ids = guarded(|| Ok(inner.encode(sample, true)?.get_ids().to_vec()))?;
        guarded(|| inner.decode(&ids, true))?;
    }
    Ok((inner, growth))
}

/// `bos_token`: a string, or an object with `content`; absent and `null` mean none.
fn bos_token(storage: &dyn ReadStorage, dir: &Path) -> Result<Option<AddedToken>> {
    for name in [TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP] {
        let path = dir.join(name);
        if storage.facts(&path).is_err() {
            continue;
        }
        let config = object(storage, &path)?;
        let flag = |token: &Value, key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
        match config.get("bos_token") {
            None => continue,
            Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => return Ok(Some(AddedToken::from(text.as_str(), true))),
            Some(token) => {
                let Some(text) = token.get("content").and_then(Value::as_str) else {
                    return Err(Error::input(format!("{}: `bos_token` is {token}, expected a string", path.display())));
                };
                let read = AddedToken::from(text, true)
                    .lstrip(flag(token, "lstrip"))
                    .rstrip(flag(token, "rstrip"))
                    .single_word(flag(token, "single_word"))
                    .normalized(flag(token, "normalized"));
                return Ok(Some(read));
            }
        }
    }
    Ok(None)
}

fn without_tokenizer_json(storage: &dyn ReadStorage, dir: &Path) -> Error {
    let error = Error::input(format!("{} has no tokenizer.json", dir.display()));
    let names = storage.list(dir).unwrap_or_default();
    let other = names.iter().filter_map(|n| n.to_str()).find(|n| *n == SENTENCEPIECE || *n == TEKKEN);
    match other {
        Some(other) => error.fact("found", other).hint(format!(
            "make one with transformers: python -c \"from transformers import AutoTokenizer as T; \
             T.from_pretrained('{0}').save_pretrained('{0}')\"",
            dir.display()
        )),
        None => error.hint("copy it from the original model, or from another model with the same vocabulary"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use moerge_checkpoint::LocalStorage;

    use super::*;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../moerge/tests/golden").join(name)
    }

    /// The golden tokenizer with another `tokenizer_config.json`, if any, and `special_tokens_map.json`, if any.
    fn encode(config: Option<&str>, map: Option<&str>, prompt: &str) -> Result<Vec<u32>> {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(golden("llama").join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
        for (name, text) in [("tokenizer_config.json", config), ("special_tokens_map.json", map)] {
            if let Some(text) = text {
                fs::write(dir.path().join(name), text).unwrap();
            }
        }
        Tokenizer::open(&LocalStorage, dir.path())?.encode_prompt(prompt)
    }

    #[test]
    fn bos_is_written_once_before_the_text_wherever_it_is_named() {
        let plain = encode(None, None, "sort the list").unwrap();
        assert!(!plain.contains(&1));
        let with_bos = [&[1], &plain[..]].concat();
        for config in [r#"{"bos_token": "<s>"}"#, r#"{"bos_token": {"content": "<s>", "lstrip": false}}"#] {
            assert_eq!(encode(Some(config), None, "sort the list").unwrap(), with_bos);
            assert_eq!(encode(Some("{}"), Some(config), "sort the list").unwrap(), with_bos);
            assert_eq!(encode(Some(r#"{"bos_token": null}"#), Some(config), "sort the list").unwrap(), plain);
        }
        assert_eq!(encode(Some(r#"{"bos_token": "<s>"}"#), None, "").unwrap(), [1]);
    }

    #[test]
    fn a_bos_token_that_tokenizer_json_does_not_have_is_a_token_all_the_same() {
        let ids = encode(Some(r#"{"bos_token": "<|begin|>"}"#), None, "the").unwrap();
        assert_eq!(ids[0], 160, "the first id after the vocabulary");
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let error = |result: Result<Vec<u32>>| result.unwrap_err().to_string();
        assert!(error(encode(None, None, "")).contains("no tokens"));
        assert!(error(encode(Some(r#"{"bos_token": 7}"#), None, "a")).contains("`bos_token` is 7"));
        assert!(error(encode(Some("{"), None, "a")).contains("tokenizer_config.json is not a JSON object"));

        let dir = tempfile::tempdir().unwrap();
        let open = || Tokenizer::open(&LocalStorage, dir.path()).unwrap_err().to_string();
        assert!(open().contains("has no tokenizer.json"));
        fs::write(dir.path().join("tokenizer.model"), "").unwrap();
        assert!(open().contains("make one with transformers"));
        fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
        assert!(open().contains("cannot be used"));
    }
}
