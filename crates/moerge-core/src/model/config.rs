//! A typed view of a model's `config.json`.
//!
//! Only the keys that moerge computes with are typed; all others stay in `raw` and are copied to the output verbatim.
//! The spellings of transformers 4 and 5 are both read: `rope_theta` with `rope_scaling` and `rope_parameters`,
//! `torch_dtype` and `dtype`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    model::{defaults::Defaults, files::parse_object, rope::Rope, unsupported::unsupported},
    suggest::shorten,
};

/// The keys of `config.json` that moerge computes with. Sizes are numbers of elements.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The file's path, for messages.
    pub path: PathBuf,
    /// The whole file in its own order, or the text part of a multimodal model.
    pub raw: Map<String, Value>,
    /// `model_type` of the multimodal model if this is its text part.
    pub part_of: Option<String>,
    /// `model_type`: the family's name in transformers.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the (dense) FFN.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key/value heads.
    pub kv_heads: usize,
    /// Width of one head; `hidden_size / heads` unless the file says otherwise.
    pub head_dim: usize,
    /// Rows of the embedding matrix.
    pub vocab_size: usize,
    /// Epsilon of the RMS norms.
    pub norm_eps: f64,
    /// The FFN's activation, as transformers names it.
    pub hidden_act: String,
    /// Rotary position embeddings.
    pub rope: Rope,
    /// Whether the LM head is the embedding matrix.
    pub tied_embeddings: bool,
    /// Maximum context in tokens.
    pub max_positions: usize,
}

/// The maximum of a size. Larger values are refused, so nothing is allocated for them and no product overflows.
fn max_size(key: &str) -> u64 {
    match key {
        "num_hidden_layers" => 4096,
        "num_experts" | "num_local_experts" | "n_routed_experts" | "n_shared_experts" | "num_experts_per_tok" => 4096,
        "num_attention_heads" | "num_key_value_heads" | "head_dim" => 1 << 16,
        "hidden_size" | "intermediate_size" | "moe_intermediate_size" | "shared_expert_intermediate_size" => 1 << 24,
        _ => 1 << 31,
    }
}

impl ModelConfig {
    /// Parses the text of a `config.json`; `path` is only for messages. `defaults` are those of a `model_type` that is
    /// known.
    pub(super) fn parse_with(text: &str, path: &Path, defaults: impl Fn(&str) -> Option<Defaults>) -> Result<Self> {
        let raw = parse_object(text.as_bytes(), path)
            .map_err(|e| e.hint("config.json comes with the model; copy it again from where the model came from"))?;
        let (raw, part_of) = text_part(raw, path, &defaults)?;
        let keys = Keys { raw: &raw, path };
        let model_type = keys.string("model_type")?.ok_or_else(|| keys.missing("model_type"))?.to_owned();
        let known = defaults(&model_type);
        if known.is_none() && SIZES.into_iter().any(|key| keys.get(key).is_none()) {
            return Err(unsupported(path, &model_type, part_of.as_deref()));
        }
        let defaults = known.unwrap_or(Defaults::LLAMA);
        let hidden_size = keys.size("hidden_size")?;
        let heads = keys.size("num_attention_heads")?;
        let head_dim = match keys.size_or_null("head_dim")? {
            Some(width) => width,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => {
                return Err(keys
                    .wrong("hidden_size", &format!("a multiple of num_attention_heads ({heads})"))
                    .hint("or give `head_dim`"));
            }
        };
        if head_dim % 2 == 1 {
            let message = format!("{}: a head is {head_dim} wide, expected an even width", path.display());
            return Err(Error::input(message).hint("rotary embeddings rotate pairs of elements"));
        }
        let norm_eps = keys.number("rms_norm_eps")?.unwrap_or(defaults.norm_eps);
        if norm_eps < 0.0 {
            return Err(keys.wrong("rms_norm_eps", "0 or above"));
        }
        let max_positions = keys.size_or_null("max_position_embeddings")?.unwrap_or(defaults.max_positions);
        Ok(Self {
            hidden_size,
            intermediate_size: keys.size("intermediate_size")?,
            layers: keys.size("num_hidden_layers")?,
            heads,
            kv_heads: keys.size_or_null("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            vocab_size: keys.size("vocab_size")?,
            norm_eps,
            hidden_act: keys.string("hidden_act")?.unwrap_or("silu").to_owned(),
            rope: Rope::from_config(&raw, head_dim, max_positions, defaults.rope_theta)
                .map_err(|why| rope_error(&raw, path, &why))?,
            tied_embeddings: keys
                .flag("tie_word_embeddings")?
                .unwrap_or(known.is_none_or(|defaults| defaults.tied_embeddings)),
            max_positions,
            part_of,
            model_type,
            raw,
            path: path.to_owned(),
        })
    }

    /// A positive number that has no field of its own.
    ///
    /// # Errors
    /// It is not a whole number above 0, or is too large.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        self.keys().size_or_null(key)
    }

    /// A number that may be 0 and has no field of its own.
    ///
    /// # Errors
    /// It is not a whole number, or is too large.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        self.keys().count_or_null(key)
    }

    /// A list of strings that has no field of its own.
    ///
    /// # Errors
    /// It is something else.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(value) = self.raw.get(key).filter(|v| !v.is_null()) else { return Ok(None) };
        let strings = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        strings.map(Some).ok_or_else(|| self.keys().wrong(key, "a list of strings"))
    }

    /// The error about a key that is missing.
    pub fn missing(&self, key: &str) -> Error {
        self.keys().missing(key)
    }

    /// An error about the value of a key.
    pub fn wrong(&self, key: &str, expected: &str) -> Error {
        self.keys().wrong(key, expected)
    }

    /// A flag that has no field of its own; `None` if it is absent or `null`.
    ///
    /// # Errors
    /// It is neither `true` nor `false`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.keys().flag(key)
    }

    /// Whether the key is present and not `null`.
    pub fn has(&self, key: &str) -> bool {
        self.raw.get(key).is_some_and(|v| !v.is_null())
    }

    fn keys(&self) -> Keys<'_> {
        Keys { raw: &self.raw, path: &self.path }
    }
}

fn rope_error(raw: &Map<String, Value>, path: &Path, why: &str) -> Error {
    let error = Error::input(format!("{}: {why}", path.display()));
    if Rope::is_of_unknown_type(raw) { error.unsupported() } else { error }
}

/// The sizes that every supported config has.
const SIZES: [&str; 4] = ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"];

/// Keys of the text part in a multimodal model's config.
const TEXT_PARTS: [&str; 3] = ["text_config", "llm_config", "language_config"];

/// The text part of a multimodal config with the type of the whole model; any other config unchanged.
fn text_part(
    whole: Map<String, Value>,
    path: &Path,
    defaults: impl Fn(&str) -> Option<Defaults>,
) -> Result<(Map<String, Value>, Option<String>)> {
    let keys = Keys { raw: &whole, path };
    let known = whole.get("model_type").and_then(Value::as_str).is_some_and(|name| defaults(name).is_some());
    let Some(text) = TEXT_PARTS.into_iter().find_map(|key| whole.get(key)?.as_object()).filter(|_| !known) else {
        return Ok((whole, None));
    };
    let model_type = keys.string("model_type")?.ok_or_else(|| keys.missing("model_type"))?.to_owned();
    let mut text = text.clone();
    if !text.contains_key("model_type") {
        return Err(unsupported(path, "of no stated type", Some(&model_type)));
    }
    for key in ["dtype", "torch_dtype", "tie_word_embeddings", "bos_token_id", "eos_token_id", "quantization_config"] {
        if let (false, Some(value)) = (text.contains_key(key), whole.get(key)) {
            text.insert(key.to_owned(), value.clone());
        }
    }
    let type_of_text = text.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let Some(defaults) = defaults(type_of_text) else {
        return Err(unsupported(path, type_of_text, Some(&model_type)));
    };
    for (key, size) in defaults.sizes.by_key() {
        text.entry(key).or_insert_with(|| size.into());
    }
    Ok((text, Some(model_type)))
}

struct Keys<'a> {
    raw: &'a Map<String, Value>,
    path: &'a Path,
}

impl Keys<'_> {
    fn missing(&self, key: &str) -> Error {
        Error::input(format!("{} has no `{key}`", self.path.display()))
            .hint("config.json must be that of a Hugging Face transformers model")
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = shorten(&self.raw.get(key).map(Value::to_string).unwrap_or_default());
        Error::input(format!("{}: `{key}` is {found}, expected {expected}", self.path.display()))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.raw.get(key).filter(|v| !v.is_null())
    }

    fn string(&self, key: &str) -> Result<Option<&str>> {
        self.get(key).map(|v| v.as_str().ok_or_else(|| self.wrong(key, "a string"))).transpose()
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key).map(|v| v.as_bool().ok_or_else(|| self.wrong(key, "true or false"))).transpose()
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.get(key).map(|v| v.as_f64().ok_or_else(|| self.wrong(key, "a number"))).transpose()
    }

    fn count_or_null(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(n) if n <= max_size(key) => Ok(Some(n as usize)),
            Some(_) => Err(self.wrong(key, &format!("at most {}", max_size(key)))),
            None => Err(self.wrong(key, "a whole number")),
        }
    }

    fn size_or_null(&self, key: &str) -> Result<Option<usize>> {
        match self.count_or_null(key)? {
            Some(0) => Err(self.wrong(key, "a whole number above 0")),
            size => Ok(size),
        }
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.size_or_null(key)?.ok_or_else(|| self.missing(key))
    }
}

#[cfg(test)]
mod tests;
