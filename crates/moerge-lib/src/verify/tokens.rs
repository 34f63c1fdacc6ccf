//! Whether the tokenizer and the model agree on tokens: every token has an embedding, and the tokenizer's end-of-text
//! token is one of those that end a text by the model's configs.

use std::path::Path;

use moerge_checkpoint::ReadStorage;
use moerge_core::{
    model::{
        files::{CONFIG, TOKENIZER},
        folder::ModelFolder,
        source::token_without_row,
    },
    progress::Silent,
};
use moerge_infer::{
    generate::{ChatTemplate, Conversation, GenerationConfig, Message},
    tokenizer::Tokenizer,
};

use super::{FindingKind, Severity, VerifyReport};

/// A context that holds any short conversation.
const CONTEXT: usize = 4096;

/// Compares a tokenizer that can be opened with the model's `config.json`.
pub(super) fn check(storage: &dyn ReadStorage, dir: &Path, folder: &ModelFolder, report: &mut VerifyReport) {
    let Ok(Some(config)) = folder.object(CONFIG) else { return };
    if !folder.has(TOKENIZER) {
        return;
    }
    // What makes it unusable is a finding of its own.
    let Ok(tokenizer) = Tokenizer::open(storage, dir) else { return };
    let rows = folder.config().map(|config| config.vocab_size as u64).ok();
    let rows = rows.or_else(|| config.get("vocab_size")?.as_u64());
    if let Some(rows) = rows {
        check_rows(storage, dir, &tokenizer, rows, report);
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

/// Every token has one of the `rows` of the embeddings. One that all prompts or all chats need breaks the model.
fn check_rows(storage: &dyn ReadStorage, dir: &Path, tokenizer: &Tokenizer, rows: u64, report: &mut VerifyReport) {
    let beyond = |tokens: &[u32]| tokens.iter().copied().find(|id| u64::from(*id) >= rows);
    let in_prompts = tokenizer.encode("a").ok().and_then(|tokens| beyond(&tokens));
    let last = tokenizer.last_token().filter(|(id, _)| u64::from(*id) >= rows);
    let Some(id) = in_prompts.or(last.as_ref().map(|(id, _)| *id)) else { return };
    let in_chats = if in_prompts.is_none() { chat_tokens(storage, dir, tokenizer, beyond) } else { None };
    let id = in_chats.unwrap_or(id);
    let name = tokenizer.id_to_token(id).unwrap_or_default();
    let Some(message) = token_without_row(id, &name, rows) else { return };
    let (severity, end) = match (in_prompts, in_chats) {
        (Some(_), _) => (Severity::Error, "; it is added to every prompt, so nothing can be run"),
        (_, Some(_)) => (Severity::Error, "; the chat template uses it, so no chat works"),
        _ => (Severity::Warning, "; a prompt with it cannot be run"),
    };
    report.add(severity, FindingKind::Tokens, None, format!("{message}{end}")).hint = Some(
        "use the tokenizer of the model that the embeddings are from, or resize the embeddings to the tokenizer".into(),
    );
}

/// The token that `beyond` finds in short conversations as the chat template renders them.
fn chat_tokens(
    storage: &dyn ReadStorage,
    dir: &Path,
    tokenizer: &Tokenizer,
    beyond: impl Fn(&[u32]) -> Option<u32>,
) -> Option<u32> {
    // A template that is broken, or refuses these conversations, is a finding of its own or none.
    let template = ChatTemplate::open(storage, dir).ok().flatten()?;
    let message = |role: &str| Message { role: role.into(), content: "a".into() };
    let conversations = [vec!["user"], vec!["system", "user"], vec!["user", "assistant", "user"]];
    conversations.into_iter().find_map(|roles| {
        let messages: Vec<Message> = roles.into_iter().map(message).collect();
        let text = template.render(&Conversation::new(&messages), CONTEXT, &Silent).ok()?;
        beyond(&tokenizer.encode_rendered(&text).ok()?)
    })
}
