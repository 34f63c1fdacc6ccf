//! The files beside the weights that readers parse: JSON, the tokenizer, the chat template. What they say is not
//! judged, only whether a reader can take it.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::{FindingKind, Severity, VerifyReport};
use moerge_core::{
    json_error::json_problem,
    model::{
        files::{
            ADDED_TOKENS, CHAT_TEMPLATE, CHAT_TEMPLATE_JSON, GENERATION_CONFIG, SPECIAL_TOKENS_MAP, TEKKEN, TOKENIZER,
            TOKENIZER_CONFIG, VOCAB,
        },
        folder::ModelFolder,
    },
};

/// What a broken file is, and is taken from again.
const HINT: &str = "copy it again from where the model came from";

/// Files that hold a JSON object, and what they are for.
const OBJECTS: [(&str, &str); 8] = [
    (TOKENIZER, OF_TOKENIZER),
    (TOKENIZER_CONFIG, OF_TOKENIZER),
    (SPECIAL_TOKENS_MAP, OF_TOKENIZER),
    (ADDED_TOKENS, OF_TOKENIZER),
    (VOCAB, OF_TOKENIZER),
    (TEKKEN, OF_TOKENIZER),
    (CHAT_TEMPLATE_JSON, TEMPLATE),
    (GENERATION_CONFIG, "generation config"),
];
const OF_TOKENIZER: &str = "tokenizer";
const TEMPLATE: &str = "chat template";

/// Checks those that are there.
pub(super) fn check(folder: &ModelFolder, report: &mut VerifyReport) {
    for (name, what) in OBJECTS.into_iter().chain([(CHAT_TEMPLATE, TEMPLATE)]).filter(|(name, _)| folder.has(name)) {
        let bytes = match folder.bytes(name) {
            Ok(bytes) => bytes,
            Err(error) => {
                report.add_error(FindingKind::Unreadable, &error);
                continue;
            }
        };
        if let Some(problem) = problem(name, &bytes).or_else(|| unusable(name, &bytes)) {
            report
                .add(Severity::Error, FindingKind::SmallFile, None, format!("{} {problem}", folder.path(name)))
                .hint = Some(HINT.into());
        }
        let mut looked_at = vec![what];
        if templates(name, &bytes).is_some_and(|found| !found.is_empty()) {
            looked_at.push(TEMPLATE);
        }
        for what in looked_at {
            if !report.small_files.iter().any(|known| known == what) {
                report.small_files.push(what.to_owned());
            }
        }
    }
}

/// Why no reader takes the file `name` of these bytes, as the end of a sentence about it. Files of other names are not
/// looked at. A tokenizer is not loaded, which takes a second where its vocabulary is large.
pub(crate) fn problem(name: &str, bytes: &[u8]) -> Option<String> {
    let is_object = OBJECTS.iter().any(|(known, _)| *known == name);
    if !is_object && name != CHAT_TEMPLATE {
        return None;
    }
    if let Err(error) = std::str::from_utf8(bytes) {
        return Some(format!("is not UTF-8 text (byte {})", error.valid_up_to()));
    }
    if is_object && let Err(error) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(bytes) {
        let kind = if error.is_data() { "a JSON object" } else { "JSON" };
        return Some(format!("is not {kind}: {}", json_problem(&error)));
    }
    template_problem(name, bytes)
}

/// The chat templates in a file; `None` where it has nothing to do with them.
fn templates(name: &str, bytes: &[u8]) -> Option<Vec<String>> {
    if name == CHAT_TEMPLATE {
        return Some(vec![String::from_utf8_lossy(bytes).into_owned()]);
    }
    if !matches!(name, TOKENIZER_CONFIG | CHAT_TEMPLATE_JSON) {
        return None;
    }
    let config: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    Some(match config.get("chat_template") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(named)) => {
            named.iter().filter_map(|t| t.get("template")?.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    })
}

fn template_problem(name: &str, bytes: &[u8]) -> Option<String> {
    let texts = templates(name, bytes)?;
    let wrong = texts.iter().find_map(|text| moerge_infer::generate::template_problem(text))?;
    Some(if name == CHAT_TEMPLATE {
        format!("is not a template: {wrong}")
    } else {
        format!("has a broken `chat_template`: {wrong}")
    })
}

/// Why a tokenizer that is valid JSON is unusable.
fn unusable(name: &str, bytes: &[u8]) -> Option<String> {
    let problem = (name == TOKENIZER).then(|| moerge_infer::tokenizer::problem(bytes)).flatten()?;
    Some(format!("cannot be used: {problem}"))
}
