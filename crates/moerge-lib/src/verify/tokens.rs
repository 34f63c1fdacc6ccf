//! Whether the tokenizer and the model agree on tokens: every token has an embedding, and the tokenizer's end-of-text
//! token is one of those that end a text by the model's configs.

use std::path::Path;

use moerge_checkpoint::ReadStorage;
use moerge_core::model::{folder::ModelFolder, source::token_without_row};
use moerge_infer::{generate::GenerationConfig, tokenizer::Tokenizer};

use super::{FindingKind, Severity, VerifyReport};

/// Compares a tokenizer that can be opened with the model's `config.json`.
pub(super) fn check(storage: &dyn ReadStorage, dir: &Path, folder: &ModelFolder, report: &mut VerifyReport) {
    let Ok(Some(config)) = folder.object("config.json") else { return };
    if !folder.has("tokenizer.json") {
        return;
    }
    // What makes it unusable is a finding of its own.
    let Ok(tokenizer) = Tokenizer::open(storage, dir) else { return };
    let rows = folder.config().map(|config| config.vocab_size as u64).ok();
    let rows = rows.or_else(|| config.get("vocab_size")?.as_u64());
    if let (Some(rows), Some((id, token))) = (rows, tokenizer.last_token())
        && let Some(message) = token_without_row(id, &token, rows)
    {
        let used = chat_templates(folder).iter().any(|template| template.contains(&token));
        let (severity, end) = match used {
            true => (Severity::Error, "; the chat template uses it, so no chat works"),
            false => (Severity::Warning, "; a prompt with it cannot be run"),
        };
        report.add(severity, FindingKind::Tokens, None, format!("{message}{end}")).hint = Some(
            "use the tokenizer of the model that the embeddings are from, or resize the embeddings to the tokenizer"
                .into(),
        );
    }
    let Ok(generation) = GenerationConfig::open(storage, dir, &config) else { return };
    if let Some(eos) = tokenizer.eos().filter(|eos| !generation.stop.contains(eos)) {
        let name = tokenizer.id_to_token(eos).unwrap_or_default();
        let ids: Vec<String> = generation.stop.iter().map(u32::to_string).collect();
        let found = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        let message = format!(
            "`eos_token` of the tokenizer is {name:?} ({eos}), which is not in `eos_token_id` of config.json and \
             generation_config.json ({found})"
        );
        let hint = format!(
            "moerge stops at it all the same; for other programs add {eos} to `eos_token_id` in generation_config.json"
        );
        report.add(Severity::Warning, FindingKind::Tokens, None, message).hint = Some(hint);
    }
}

fn chat_templates(folder: &ModelFolder) -> Vec<String> {
    let mut texts = Vec::new();
    for name in ["tokenizer_config.json", "chat_template.json", "chat_template.jinja"] {
        let bytes = folder.has(name).then(|| folder.bytes(name).ok()).flatten();
        texts.extend(bytes.and_then(|bytes| super::small_files::templates(name, &bytes)).unwrap_or_default());
    }
    texts
}
