//! A model's chat template, rendered with the same variables as transformers' `apply_chat_template`.
//!
//! <https://huggingface.co/docs/transformers/chat_templating>. The engine is [`crate::jinja`]; this file finds the
//! template, builds its variables and bounds what it may use.

use std::path::Path;

use moerge_checkpoint::ReadStorage;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    jinja::{Cause, Failure, Limits, Template},
    special_tokens::{SpecialTokens, object},
};
use moerge_core::{
    error::{Error, Result},
    model::files::{CHAT_TEMPLATE, TOKENIZER_CONFIG, read_text},
    progress::Progress,
};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// What a template turns into a prompt.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// The turns, each a JSON object with at least `role`.
    pub messages: Vec<Value>,
    /// Functions that the model may call, as JSON schemas.
    pub tools: Option<Vec<Value>>,
    /// Documents to answer from, each with `title` and `text`.
    pub documents: Option<Vec<Value>>,
    /// Whether the prompt ends where the assistant begins to answer.
    pub add_generation_prompt: bool,
}

impl Conversation {
    /// A conversation for the assistant to continue.
    pub fn new(messages: &[Message]) -> Self {
        let message = |m: &Message| json!({"role": m.role, "content": m.content});
        let messages = messages.iter().map(message).collect();
        Self { messages, tools: None, documents: None, add_generation_prompt: true }
    }
}

/// Turns a conversation into the prompt format that the model was trained on.
#[derive(Debug)]
pub struct ChatTemplate {
    default: NamedTemplate,
    /// The template for conversations with tools.
    tool_use: Option<NamedTemplate>,
    special_tokens: SpecialTokens,
}

#[derive(Debug)]
struct NamedTemplate {
    /// Its file, for messages.
    file: String,
    template: Template,
}

/// The folder of templates other than the default one.
const ADDITIONAL: &str = "additional_chat_templates";
/// Maximum prompt bytes per token of the context. Tokens have up to 128 bytes, but hardly any text consists of the
/// longest ones.
const BYTES_PER_TOKEN: usize = 64;
/// Maximum steps for any template, and per byte of input.
const STEPS: u64 = 4_000_000;
const STEPS_PER_BYTE: u64 = 4;
/// Maximum memory for any template, per byte of input, and in total.
const MEMORY: usize = 64 << 20;
const MEMORY_PER_BYTE: usize = 256;
const MAX_MEMORY: usize = 1 << 30;

/// Maximum bytes of a prompt for a context of `tokens`. A longer one cannot fit.
pub fn max_prompt_bytes(tokens: usize) -> usize {
    tokens.saturating_mul(BYTES_PER_TOKEN).saturating_add(4096)
}

impl ChatTemplate {
    /// Finds the template of the model in `dir`: `chat_template.jinja`, or `chat_template` of `tokenizer_config.json`
    /// (a string, or a list of named ones). `None` where the model has none.
    ///
    /// # Errors
    /// A file cannot be read, is not JSON, or the template does not parse.
    pub fn open(storage: &dyn ReadStorage, dir: &Path) -> Result<Option<Self>> {
        let config_path = dir.join(TOKENIZER_CONFIG);
        let config = object(storage, &config_path)?;
        let in_config = format!("`chat_template` in {}", config_path.display());
        let mut named = Vec::new();
        let main = dir.join(CHAT_TEMPLATE);
        let tool_use = dir.join(ADDITIONAL).join("tool_use.jinja");
        for (name, path) in [("default", main), ("tool_use", tool_use)] {
            if storage.facts(&path).is_ok() {
                named.push((name.to_owned(), path.display().to_string(), read_text(storage, &path)?));
            }
        }
        if named.is_empty() {
            named = templates_of_config(&config).into_iter().map(|(n, text)| (n, in_config.clone(), text)).collect();
        }
        if named.is_empty() {
            return Ok(None);
        }
        let mut take = |name: &str| {
            let at = named.iter().position(|(known, ..)| known == name)?;
            let (_, file, text) = named.swap_remove(at);
            Some(NamedTemplate::new(file, &text))
        };
        let (default, tool_use) = (take("default").transpose()?, take("tool_use").transpose()?);
        let Some(default) = default else {
            let names: Vec<&str> = named.iter().map(|(name, ..)| name.as_str()).collect();
            return Err(Error::input(format!("{in_config} has several templates, and none is called `default`"))
                .fact("found", names.join(", "))
                .hint("call the one to use `default`"));
        };
        Ok(Some(Self { default, tool_use, special_tokens: SpecialTokens::open(storage, dir)? }))
    }

    /// Parses a template; messages call it `file`.
    ///
    /// # Errors
    /// It does not parse.
    pub fn parse(file: &str, source: &str, special_tokens: SpecialTokens) -> Result<Self> {
        Ok(Self { default: NamedTemplate::new(file.to_owned(), source)?, tool_use: None, special_tokens })
    }

    /// Renders a conversation for a context of `context` tokens. Stops when `progress` is cancelled.
    ///
    /// # Errors
    /// The template refuses the conversation or fails, exceeds its limits, or the user stops it.
    pub fn render(&self, conversation: &Conversation, context: usize, progress: &dyn Progress) -> Result<String> {
        let Conversation { messages, tools, documents, add_generation_prompt } = conversation;
        let template = match &self.tool_use {
            Some(tool_use) if tools.is_some() => tool_use,
            _ => &self.default,
        };
        let mut variables: Vec<(String, Value)> = vec![
            ("messages".into(), messages.iter().map(normalized).collect()),
            ("tools".into(), tools.clone().map_or(Value::Null, Value::Array)),
            ("documents".into(), documents.clone().map_or(Value::Null, Value::Array)),
            ("add_generation_prompt".into(), Value::Bool(*add_generation_prompt)),
        ];
        for (name, text) in self.special_tokens.iter() {
            variables.push((name.to_owned(), text.into()));
        }
        let given: usize = variables.iter().map(|(_, value)| json_bytes(value)).sum();
        let most = max_prompt_bytes(context);
        if given > most.saturating_mul(4) {
            return Err(Error::input(format!(
                "the conversation has {given} bytes, which cannot fit in the context of {context} tokens"
            ))
            .hint("shorten it, or begin a new conversation"));
        }
        let limits = Limits {
            steps: STEPS + STEPS_PER_BYTE.saturating_mul(given as u64),
            memory: MEMORY.saturating_add(MEMORY_PER_BYTE.saturating_mul(given)).min(MAX_MEMORY),
            output: most,
        };
        template.template.render(&variables, limits, progress).map_err(|failure| template.failed(failure))
    }
}

impl NamedTemplate {
    fn new(file: String, source: &str) -> Result<Self> {
        match Template::parse(source) {
            Ok(template) => Ok(Self { file, template }),
            Err(failure) => {
                let place = place(&failure);
                Err(Error::input(format!("the chat template is broken: {}", failure.message))
                    .fact("template", format!("{file}{place}"))
                    .hint("correct it, or copy it again from the original model"))
            }
        }
    }

    fn failed(&self, failure: Failure) -> Error {
        let place = place(&failure);
        let (what, hint) = match failure.cause {
            Cause::Stopped(error) => return error,
            Cause::Limit => ("is refused", "no conversation needs this much; check the template"),
            Cause::Raised => {
                ("refuses the conversation", "it may not accept a system message, or two turns of one role")
            }
            Cause::Template => ("fails", "the template may not accept a conversation like this one"),
        };
        let message = moerge_core::suggest::printable(&failure.message);
        let message = message.char_indices().nth(300).map_or(&*message, |(end, _)| &message[..end]);
        Error::input(format!("the chat template {what}: {message}"))
            .fact("template", format!("{}{place}", self.file))
            .hint(hint)
    }
}

fn place(failure: &Failure) -> String {
    failure.line.map(|line| format!(", line {line}")).unwrap_or_default()
}

/// The templates in a `tokenizer_config.json`, with their names.
fn templates_of_config(config: &Map<String, Value>) -> Vec<(String, String)> {
    match config.get("chat_template") {
        Some(Value::String(text)) => vec![("default".to_owned(), text.clone())],
        Some(Value::Array(named)) => {
            let field = |t: &Value, key: &str| t.get(key).and_then(Value::as_str).map(str::to_owned);
            named.iter().filter_map(|t| Some((field(t, "name")?, field(t, "template")?))).collect()
        }
        _ => Vec::new(),
    }
}

/// Drops `null` values and copies the reasoning to every name that templates use, as transformers does.
fn normalized(message: &Value) -> Value {
    let Value::Object(message) = message else { return message.clone() };
    let reasoning = ["reasoning_content", "thinking", "reasoning"]
        .into_iter()
        .find_map(|name| message.get(name).filter(|value| !value.is_null()))
        .cloned();
    let mut normalized = Map::new();
    if let Some(reasoning) = &reasoning {
        normalized.insert("thinking".into(), reasoning.clone());
    }
    for (key, value) in message.iter().filter(|(_, value)| !value.is_null()) {
        normalized.insert(key.clone(), value.clone());
    }
    if let Some(reasoning) = reasoning {
        normalized.insert("reasoning_content".into(), reasoning);
    }
    Value::Object(normalized)
}

/// The approximate size of a value in bytes.
fn json_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 8,
        Value::Array(items) => items.iter().map(json_bytes).sum::<usize>() + 8,
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| key.len() + 8 + json_bytes(value)).sum::<usize>() + 8
        }
        _ => 8,
    }
}

/// Why a template cannot be parsed: `line 3: expected an expression, found `%}``.
pub fn template_problem(text: &str) -> Option<String> {
    let failure = Template::parse(text).err()?;
    let line = failure.line.map(|line| format!("line {line}: ")).unwrap_or_default();
    Some(format!("{line}{}", failure.message))
}

#[cfg(test)]
mod tests;
