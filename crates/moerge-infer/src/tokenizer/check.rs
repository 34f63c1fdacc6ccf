//! Checks a `tokenizer.json` before the tokenizers library loads it. The library panics on some files, and others make
//! text grow a thousandfold. [`guarded`] turns the remaining panics into errors.

use moerge_core::{caught::caught, json_error::json_problem, suggest::shorten};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Maximum nesting of `Sequence`. Reading nested sequences takes the library exponential time.
const MAX_NESTING: usize = 4;
/// Maximum number of components in a section.
const MAX_COMPONENTS: usize = 64;
/// Maximum factor by which all components combined may lengthen text.
const MAX_GROWTH: f64 = 128.0;
/// Maximum length of an inserted string, in bytes.
const MAX_INSERTED: usize = 256;
/// Maximum length of a pattern, in bytes.
const MAX_PATTERN: usize = 64 << 10;
/// Maximum length of a replacement in a precompiled map, in bytes.
const MAX_MAPPED: usize = 64;
/// The same for the replacement of an ASCII character.
const MAX_MAPPED_ASCII: usize = 8;
/// Maximum bytes that one token decodes to.
const MAX_DECODED: f64 = 16e3;
/// Maximum length of a word for WordPiece, whose lookup takes quadratic time.
const MAX_WORD: u64 = 10_000;
/// Maximum growth by NFKC and NFKD: U+FDFA grows from 3 to 33 bytes.
const COMPATIBILITY: f64 = 11.0;
/// Maximum number of characters that a decoder strips from a token.
const MAX_STRIPPED: u64 = 64;
/// Maximum number of special tokens that a post-processor adds.
const MAX_ADDED: usize = 64;

/// The sections that determine how text grows. `vocab` and `merges` are left to the library.
#[derive(Deserialize)]
struct Sections {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    model: Model,
}

/// The settings of the model that determine its running time.
#[derive(Default, Deserialize)]
struct Model {
    #[serde(default)]
    max_input_chars_per_word: Value,
}

/// The factors by which a tokenizer may lengthen text when encoding, and a token when decoding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    pub text: f64,
    pub token: f64,
}

/// How much the tokenizer may lengthen text, or why it is refused.
pub fn growth(bytes: &[u8]) -> Result<Growth, String> {
    let sections: Sections = serde_json::from_slice(bytes).map_err(|error| json_problem(&error))?;
    if sections.model.max_input_chars_per_word.as_u64() > Some(MAX_WORD) {
        return Err(format!("model: `max_input_chars_per_word` is above {MAX_WORD}"));
    }
    let (mut growth, mut unicode, mut replaced) = (1.0, 1.0, 1.0);
    for (name, section) in [("normalizer", &sections.normalizer), ("pre_tokenizer", &sections.pre_tokenizer)] {
        for component in components(name, section)? {
            let by = component_growth(component).map_err(|why| format!("{name}: {why}"))?;
            match kind(component) {
                "NFKC" | "NFKD" | "Precompiled" => unicode *= by,
                kind => {
                    growth *= by;
                    // Compatibility forms leave ASCII and the space mark unchanged.
                    let content = component.get("content").and_then(Value::as_str).unwrap_or_default();
                    if kind == "Replace" && content.contains(|c: char| !c.is_ascii() && c != '▁') {
                        replaced = f64::max(replaced, by);
                    }
                }
            }
        }
    }
    // A single compatibility normalization hardly lengthens ordinary text. After a replacement or another one, assume
    // the worst.
    if replaced > 1.0 || unicode > COMPATIBILITY {
        growth *= unicode;
    }
    let mut decoded = 1.0;
    for component in components("decoder", &sections.decoder)? {
        decoded *= component_growth(component).map_err(|why| format!("decoder: {why}"))?;
    }
    if growth > MAX_GROWTH || decoded > MAX_GROWTH {
        let factor = growth.max(decoded);
        return Err(format!(
            "its components may make text {factor:.0} times as long, more than the limit of {MAX_GROWTH}"
        ));
    }
    let mut added = 0;
    for component in components("post_processor", &sections.post_processor)? {
        added += template(component).map_err(|why| format!("post_processor: {why}"))?;
    }
    if added > MAX_ADDED {
        return Err(format!("post_processor: it adds {added} special tokens, and at most {MAX_ADDED} are allowed"));
    }
    Ok(Growth { text: growth.max(1.0), token: decoded.max(1.0) })
}

/// Why a token of `bytes` is too long, if it is.
pub fn too_long(bytes: usize, growth: Growth) -> Option<String> {
    let decoded = bytes as f64 * growth.token;
    (decoded > MAX_DECODED).then(|| {
        format!("a token of {bytes} bytes may decode to {decoded:.0} bytes, more than the limit of {MAX_DECODED}")
    })
}

/// The components of a section, those within a `Sequence` included.
fn components<'v>(section: &str, value: &'v Value) -> Result<Vec<&'v Map<String, Value>>, String> {
    let mut found = Vec::new();
    let mut open = vec![(value, 0)];
    while let Some((value, depth)) = open.pop() {
        let Value::Object(component) = value else { continue };
        if depth > MAX_NESTING {
            return Err(format!("{section}: `Sequence` is nested more than {MAX_NESTING} levels deep"));
        }
        let lists = ["normalizers", "pretokenizers", "processors", "decoders"];
        for list in lists.into_iter().filter_map(|key| component.get(key)?.as_array()) {
            open.extend(list.iter().map(|inner| (inner, depth + 1)));
        }
        found.push(component);
        if found.len() + open.len() > MAX_COMPONENTS {
            return Err(format!("{section}: it has more than {MAX_COMPONENTS} components"));
        }
    }
    Ok(found)
}

fn kind(component: &Map<String, Value>) -> &str {
    component.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// The factor by which one component of a normalizer, pre-tokenizer or decoder may lengthen text.
fn component_growth(component: &Map<String, Value>) -> Result<f64, String> {
    let kind = kind(component);
    for (key, value) in component {
        let most = if matches!(key.as_str(), "precompiled_charsmap") { usize::MAX } else { MAX_INSERTED };
        if let Some(text) = value.as_str().filter(|text| text.len() > most) {
            return Err(format!("`{key}` of {kind} has {} bytes, and at most {most} are allowed", text.len()));
        }
    }
    let number = |key: &str| component.get(key).and_then(Value::as_u64);
    match kind {
        "Prepend" => match component.get("prepend").and_then(Value::as_str) {
            None | Some("") => Err("`prepend` of Prepend is empty".into()),
            // It adds nothing to empty text.
            Some(text) => Ok(if text.len() <= 8 { 1.0 } else { 1.0 + text.len() as f64 / 8.0 }),
        },
        "Replace" => replacement(component),
        "Split" => pattern(component).map(|_| 1.0),
        "Precompiled" => precompiled(component.get("precompiled_charsmap")).map(|()| COMPATIBILITY),
        "NFKC" | "NFKD" => Ok(COMPATIBILITY),
        "NFC" | "NFD" => Ok(1.0),
        "FixedLength" if number("length") == Some(0) => Err("`length` of FixedLength is 0".into()),
        "Strip" if number("start").max(number("stop")) > Some(MAX_STRIPPED) => {
            Err(format!("Strip removes more than {MAX_STRIPPED} characters of a token"))
        }
        "ByteLevel" | "BertNormalizer" | "BertPreTokenizer" => Ok(2.0),
        "Metaspace" => Ok(3.0),
        _ => Ok(1.0),
    }
}

/// The string or regular expression of a `pattern`.
fn pattern(component: &Map<String, Value>) -> Result<(&str, bool), String> {
    let Some(pattern) = component.get("pattern") else { return Ok(("?", true)) };
    let literal = pattern.get("String").and_then(Value::as_str);
    let regex = pattern.get("Regex").and_then(Value::as_str);
    let Some(text) = literal.or(regex) else { return Ok(("?", true)) };
    if text.is_empty() {
        return Err(format!("`pattern` of {} is empty", kind(component)));
    }
    if text.len() > MAX_PATTERN {
        return Err(format!("`pattern` of {} has {} bytes", kind(component), text.len()));
    }
    Ok((text, literal.is_none()))
}

fn replacement(component: &Map<String, Value>) -> Result<f64, String> {
    let (pattern, is_regex) = pattern(component)?;
    let content = component.get("content").and_then(Value::as_str).unwrap_or_default();
    // A regular expression that matches the empty string inserts its replacement before every character.
    let may_match_nothing =
        is_regex && pattern.contains(['*', '?', '|', '^', '$', '\\', '(']) || pattern.contains("{0");
    let replaced = if is_regex { 1 } else { pattern.len() };
    let kept = if may_match_nothing { 1.0 } else { 0.0 };
    Ok((content.len() as f64 / replaced as f64 + kept).max(1.0))
}

/// Checks a SentencePiece map: trie size, trie, and NUL-terminated replacements.
fn precompiled(map: Option<&Value>) -> Result<(), String> {
    let text = map.and_then(Value::as_str).filter(|text| !text.is_empty());
    let text = text.ok_or("`precompiled_charsmap` of Precompiled is empty")?;
    let bytes = base64(text).ok_or("`precompiled_charsmap` of Precompiled is not base64")?;
    let broken = "`precompiled_charsmap` of Precompiled is broken";
    let (size, rest) = bytes.split_first_chunk::<4>().ok_or(broken)?;
    let size = u32::from_le_bytes(*size) as usize;
    if size == 0 || !size.is_multiple_of(4) || size > rest.len() {
        return Err(format!("{broken}: its trie has {size} bytes of {}", rest.len()));
    }
    let (trie, mapped) = rest.split_at(size);
    let unit = |at: usize| trie.get(4 * at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    for byte in b' '..=b'~' {
        let place = ascii_replacement(unit, byte).and_then(|place| mapped.get(place..));
        let length = place.map_or(0, |text| text.split(|byte| *byte == 0).next().map_or(0, <[u8]>::len));
        if length > MAX_MAPPED_ASCII {
            return Err(format!("{broken}: it replaces {:?} by {length} bytes", char::from(byte)));
        }
    }
    let longest = mapped.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0);
    if longest > MAX_MAPPED {
        return Err(format!("{broken}: it replaces a character by {longest} bytes"));
    }
    Ok(())
}

/// The offset of an ASCII character's replacement, looked up in a double-array trie (darts-clone).
fn ascii_replacement(unit: impl Fn(usize) -> Option<u32>, byte: u8) -> Option<usize> {
    let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
    let at = offset(unit(0)?) ^ usize::from(byte);
    let node = unit(at)?;
    if node & (1 << 31 | 0xff) != u32::from(byte) || node >> 8 & 1 == 0 {
        return None;
    }
    let leaf = unit(at ^ offset(node))?;
    Some((leaf & (u32::MAX >> 1)) as usize)
}

/// Decodes standard base64, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0u32, 0);
    for c in text.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

/// The number of special tokens that a post-processor adds.
fn template(component: &Map<String, Value>) -> Result<usize, String> {
    if kind(component) != "TemplateProcessing" {
        return Ok(usize::from(matches!(kind(component), "RobertaProcessing" | "BertProcessing")) * 2);
    }
    let tokens = component.get("special_tokens").and_then(Value::as_object);
    let single = component.get("single").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let (mut sequences, mut added) = (0, 0);
    for piece in single {
        if let Some(sequence) = piece.get("Sequence") {
            if sequence.get("id").and_then(Value::as_str) != Some("A") {
                return Err("`single` of TemplateProcessing uses a second sequence".into());
            }
            sequences += 1;
        }
        if let Some(id) = piece.get("SpecialToken").and_then(|token| token.get("id")).and_then(Value::as_str) {
            let token = tokens.and_then(|tokens| tokens.get(id));
            let token = token.ok_or_else(|| {
                format!("TemplateProcessing uses `{}`, which is not among its `special_tokens`", shorten(id))
            })?;
            added += token.get("ids").and_then(Value::as_array).map_or(1, Vec::len);
        }
    }
    if sequences != 1 {
        return Err(format!("`single` of TemplateProcessing holds the text {sequences} times, expected once"));
    }
    Ok(added)
}

/// Runs `work` in the tokenizers library and turns a panic into an error.
pub fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match caught(work) {
        Ok(result) => result.map_err(|why| why.downcast_ref().map_or_else(|| why.to_string(), json_problem)),
        Err(panic) => Err(format!("the tokenizers library panics on it ({})", shorten(&panic))),
    }
}

#[cfg(test)]
mod tests;
