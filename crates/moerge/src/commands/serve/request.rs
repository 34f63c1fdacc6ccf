//! Requests: the JSON bodies of `/v1/completions` and `/v1/chat/completions`, validated field by field.

use std::ops::RangeInclusive;

use moerge_infer::generate::{Message, Sampling};
use serde_json::{Map, Value};

use super::api_error::ApiError;

/// A validated request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// One answer is generated for each.
    pub prompts: Vec<Prompt>,
    pub max_tokens: usize,
    pub sampling: Sampling,
    /// Strings that end an answer.
    pub stop: Vec<String>,
    /// Whether the answer starts with the prompt.
    pub echo: bool,
    /// How many of the most likely tokens to return with their log-probabilities; `None` for no log-probabilities.
    pub logprobs: Option<usize>,
    /// Whether to return the experts of each token.
    pub routes: bool,
    /// Whether it sets a seed, so the answer must not depend on earlier requests.
    pub seeded: bool,
    pub stream: bool,
    /// Whether a stream ends with token counts.
    pub stream_usage: bool,
}

/// The text to continue.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    Chat(Vec<Message>),
}

/// Defaults for requests that omit a field.
#[derive(Debug, Clone)]
pub struct Defaults {
    pub sampling: Sampling,
    /// Maximum tokens of a chat answer.
    pub max_tokens: usize,
}

/// Default for completions, as in OpenAI's API.
const COMPLETION_TOKENS: usize = 16;
/// Maximum number of prompts.
const MAX_PROMPTS: usize = 1024;
/// Maximum number of stop strings.
const MAX_STOPS: usize = 16;
/// Maximum length of a stop string, which is searched for after every token.
const MAX_STOP_BYTES: usize = 1024;
/// Maximum number of log-probabilities per token.
const MAX_LOGPROBS: usize = 100;

impl Request {
    /// Parses the body of `/v1/completions`.
    pub fn completion(body: &[u8], defaults: &Defaults) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        let prompt = fields.get("prompt").ok_or_else(|| ApiError::field("prompt", "is missing"))?;
        fields.unsupported("suffix", |v| v.as_str() == Some(""))?;
        fields.unsupported("best_of", |v| v.as_u64() == Some(1))?;
        Ok(Self {
            prompts: prompts(prompt)?,
            max_tokens: fields.limit("max_tokens")?.unwrap_or(COMPLETION_TOKENS),
            echo: fields.flag("echo")?,
            logprobs: match fields.get("logprobs") {
                Some(Value::Bool(false)) => None,
                Some(Value::Bool(true)) => Some(0),
                _ => fields.count("logprobs")?,
            },
            ..fields.common(defaults)?
        })
        .and_then(Self::checked)
    }

    /// Parses the body of `/v1/chat/completions`.
    pub fn chat(body: &[u8], defaults: &Defaults) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        let messages = fields.get("messages").ok_or_else(|| ApiError::field("messages", "is missing"))?;
        for field in ["tools", "functions"] {
            fields.unsupported(field, |v| v.as_array().is_some_and(Vec::is_empty))?;
        }
        fields.unsupported("response_format", |v| v.get("type").and_then(Value::as_str) == Some("text"))?;
        let max_tokens = match fields.limit("max_completion_tokens")? {
            Some(tokens) => Some(tokens),
            None => fields.limit("max_tokens")?,
        };
        let top = fields.count("top_logprobs")?;
        Ok(Self {
            prompts: vec![Prompt::Chat(conversation(messages)?)],
            max_tokens: max_tokens.unwrap_or(defaults.max_tokens),
            echo: false,
            logprobs: fields.flag("logprobs")?.then_some(top.unwrap_or(0)),
            ..fields.common(defaults)?
        })
        .and_then(Self::checked)
    }

    fn checked(self) -> Result<Self, ApiError> {
        if self.logprobs.is_some_and(|n| n > MAX_LOGPROBS) {
            return Err(ApiError::field("logprobs", &format!("expected at most {MAX_LOGPROBS}")));
        }
        if self.routes && !self.stream {
            return Err(ApiError::field("moerge_routes", "needs `stream: true`"));
        }
        Ok(self)
    }
}

/// Lists and objects in a body, at most. Each takes a hundred bytes where the body has four.
const MAX_CONTAINERS: usize = 100_000;

/// The number of lists and objects that a JSON text opens.
fn containers(json: &[u8]) -> usize {
    let (mut in_string, mut escaped, mut count) = (false, false, 0);
    for byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => count += 1,
            _ => {}
        }
    }
    count
}

/// The fields of a request.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        if containers(body) > MAX_CONTAINERS {
            return Err(ApiError::request(format!("the body has more than {MAX_CONTAINERS} lists and objects")));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::request("the body is JSON, but not an object")),
            Err(error) => Err(ApiError::request(format!("the body is not JSON: {error}"))),
        }
    }

    /// The field, unless it is absent or `null`.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn flag(&self, name: &'static str) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(expected(name, "true or false", other)),
        }
    }

    fn count(&self, name: &'static str) -> Result<Option<usize>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok());
        count.map(Some).ok_or_else(|| expected(name, "a whole number, 0 or more", value))
    }

    /// A maximum number of tokens; -1 means no limit other than the context.
    fn limit(&self, name: &'static str) -> Result<Option<usize>, ApiError> {
        match self.get(name) {
            Some(value) if value.as_i64() == Some(-1) => Ok(Some(usize::MAX)),
            _ => self.count(name),
        }
    }

    fn number(&self, name: &'static str, range: RangeInclusive<f32>) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().map(|x| x as f32).filter(|x| range.contains(x));
        let wanted = format!("a number from {} to {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| expected(name, &wanted, value))
    }

    /// Refuses an unsupported field that would change the answer, unless it has its neutral value.
    fn unsupported(&self, name: &'static str, is_neutral: impl Fn(&Value) -> bool) -> Result<(), ApiError> {
        match self.get(name) {
            Some(value) if !is_neutral(value) => Err(ApiError::field(name, "is not supported by this server")),
            _ => Ok(()),
        }
    }

    /// The fields that both endpoints share.
    fn common(&self, defaults: &Defaults) -> Result<Request, ApiError> {
        self.unsupported("n", |v| v.as_u64() == Some(1))?;
        for penalty in ["frequency_penalty", "presence_penalty"] {
            self.unsupported(penalty, |v| v.as_f64() == Some(0.0))?;
        }
        self.unsupported("logit_bias", |v| v.as_object().is_some_and(Map::is_empty))?;
        let default = defaults.sampling;
        let sampling = Sampling {
            temperature: self.number("temperature", 0.0..=100.0)?.unwrap_or(default.temperature),
            top_p: self.number("top_p", 0.0..=1.0)?.unwrap_or(default.top_p),
            min_p: self.number("min_p", 0.0..=1.0)?.unwrap_or(default.min_p),
            top_k: match self.get("top_k") {
                // "All" on other servers.
                Some(value) if value.as_i64() == Some(-1) => 0,
                _ => self.count("top_k")?.unwrap_or(default.top_k),
            },
            // Also llama.cpp's name.
            repetition_penalty: self
                .number("repetition_penalty", 0.01..=100.0)?
                .or(self.number("repeat_penalty", 0.01..=100.0)?)
                .unwrap_or(default.repetition_penalty),
            seed: match self.get("seed") {
                None => default.seed,
                Some(value) => {
                    // Negative seeds are valid.
                    let seed = value.as_u64().or(value.as_i64().map(i64::cast_unsigned));
                    seed.ok_or_else(|| expected("seed", "a whole number", value))?
                }
            },
        };
        let stream_usage = self.get("stream_options").and_then(|o| o.get("include_usage"));
        Ok(Request {
            prompts: Vec::new(),
            max_tokens: 0,
            sampling,
            stop: self.stop()?,
            echo: false,
            logprobs: None,
            routes: self.flag("moerge_routes")?,
            seeded: self.get("seed").is_some(),
            stream: self.flag("stream")?,
            stream_usage: stream_usage.and_then(Value::as_bool).unwrap_or(false),
        })
    }

    fn stop(&self) -> Result<Vec<String>, ApiError> {
        let wrong = |value: &Value| expected("stop", "a string or a list of strings", value);
        let stop: Vec<String> = match self.get("stop") {
            None => Vec::new(),
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(texts)) => {
                texts.iter().map(|t| t.as_str().map(str::to_owned).ok_or_else(|| wrong(t))).collect::<Result<_, _>>()?
            }
            Some(other) => return Err(wrong(other)),
        };
        if stop.len() > MAX_STOPS {
            return Err(ApiError::field("stop", &format!("expected at most {MAX_STOPS} strings")));
        }
        if let Some(long) = stop.iter().find(|text| text.len() > MAX_STOP_BYTES) {
            let what = format!("expected at most {MAX_STOP_BYTES} bytes, found {}", long.len());
            return Err(ApiError::field("stop", &what));
        }
        Ok(stop.into_iter().filter(|text| !text.is_empty()).collect())
    }
}

fn expected(name: &'static str, wanted: &str, found: &Value) -> ApiError {
    let found = match found {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        other => other.to_string(),
    };
    ApiError::field(name, &format!("expected {wanted}, found {found}"))
}

/// A string, a list of strings, a list of tokens or a list of such lists.
fn prompts(value: &Value) -> Result<Vec<Prompt>, ApiError> {
    let wrong = || expected("prompt", "a string, a list of strings, a list of tokens or a list of such lists", value);
    let tokens = |list: &[Value]| -> Result<Prompt, ApiError> {
        let token = |t: &Value| t.as_u64().and_then(|t| u32::try_from(t).ok()).ok_or_else(wrong);
        Ok(Prompt::Tokens(list.iter().map(token).collect::<Result<_, _>>()?))
    };
    let prompts = match value {
        Value::String(text) => vec![Prompt::Text(text.clone())],
        Value::Array(list) if list.first().is_some_and(Value::is_number) => vec![tokens(list)?],
        Value::Array(list) if !list.is_empty() => {
            let prompt = |prompt: &Value| match prompt {
                Value::String(text) => Ok(Prompt::Text(text.clone())),
                Value::Array(list) => tokens(list),
                _ => Err(wrong()),
            };
            list.iter().map(prompt).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong()),
    };
    if prompts.len() > MAX_PROMPTS {
        return Err(ApiError::field("prompt", &format!("expected at most {MAX_PROMPTS} prompts")));
    }
    Ok(prompts)
}

fn conversation(value: &Value) -> Result<Vec<Message>, ApiError> {
    let list = value.as_array().ok_or_else(|| expected("messages", "a list of messages", value))?;
    if list.is_empty() {
        return Err(ApiError::field("messages", "expected at least one message, the list is empty"));
    }
    list.iter().map(message).collect()
}

/// `{"role", "content"}`, where the content is a string or a list of text parts.
fn message(value: &Value) -> Result<Message, ApiError> {
    let role = match value.get("role").and_then(Value::as_str) {
        Some("developer") => "system",
        Some(role) => role,
        None => return Err(ApiError::field("messages", "a message without a `role`")),
    };
    if let Some(calls) = value.get("tool_calls").filter(|calls| calls.as_array().is_none_or(|list| !list.is_empty()))
        && !calls.is_null()
    {
        return Err(ApiError::field("messages", "`tool_calls` are not supported by this server"));
    }
    let part = |part: &Value| match (part.get("type").and_then(Value::as_str), part.get("text")) {
        (Some("text"), Some(Value::String(text))) => Ok(text.clone()),
        _ => Err(ApiError::field("messages", "only parts of the type `text` are supported")),
    };
    let content = match value.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(part).collect::<Result<Vec<_>, _>>()?.concat(),
        // An assistant message with only tool calls has no content.
        None | Some(Value::Null) if role == "assistant" => String::new(),
        _ => return Err(ApiError::field("messages", "the `content` of a message is a string or a list of parts")),
    };
    Ok(Message { role: role.to_owned(), content })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults { sampling: Sampling::default(), max_tokens: 512 }
    }

    fn completion(body: &str) -> Result<Request, String> {
        Request::completion(body.as_bytes(), &defaults()).map_err(|e| e.json()["error"]["message"].to_string())
    }

    fn chat(body: &str) -> Result<Request, String> {
        Request::chat(body.as_bytes(), &defaults()).map_err(|e| e.json()["error"]["message"].to_string())
    }

    #[test]
    fn prompts_are_texts_or_tokens() {
        let prompts = |json: &str| completion(&format!(r#"{{"prompt": {json}}}"#)).map(|r| r.prompts);
        assert_eq!(prompts(r#""a""#).unwrap(), [Prompt::Text("a".into())]);
        assert_eq!(prompts("[1, 2]").unwrap(), [Prompt::Tokens(vec![1, 2])]);
        assert_eq!(prompts("[[1], [2]]").unwrap(), [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2])]);
        assert_eq!(prompts(r#"["a", "b"]"#).unwrap().len(), 2);
        for wrong in ["7", "[]", "[1, \"a\"]", "[-1]", "[{}]", "null"] {
            assert!(prompts(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn attack_09_bodies_of_many_lists_are_refused_before_they_are_parsed() {
        assert_eq!(containers(br#"{"a[{": ["\\", "\"[", {}]}"#), 3);
        let many = format!(r#"{{"prompt": [{}1]}}"#, "[5],".repeat(MAX_CONTAINERS));
        assert!(completion(&many).unwrap_err().contains("lists and objects"));
        let text = format!(r#"{{"prompt": "{}"}}"#, "[".repeat(MAX_CONTAINERS));
        assert!(completion(&text).is_ok());
    }

    #[test]
    fn what_is_left_out_is_the_default() {
        let request = completion(r#"{"prompt": "a", "temperature": null, "model": "x", "unknown": 1}"#).unwrap();
        assert_eq!((request.max_tokens, request.logprobs, request.sampling), (16, None, Sampling::default()));
        let request = chat(r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}"#).unwrap();
        assert_eq!(request.max_tokens, 512);
        assert_eq!(request.prompts, [Prompt::Chat(vec![Message { role: "user".into(), content: "a".into() }])]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, named) in [
            ("{", "not JSON"),
            ("[]", "not an object"),
            ("{}", "`prompt`: is missing"),
            (r#"{"prompt": "a", "temperature": "hot"}"#, "`temperature`: expected a number from 0 to 100"),
            (r#"{"prompt": "a", "max_tokens": -2}"#, "`max_tokens`"),
            (&format!(r#"{{"prompt": "a", "stop": "{}"}}"#, "x".repeat(2000)), "at most 1024 bytes"),
            (r#"{"prompt": "a", "n": 2}"#, "`n`: is not supported"),
            (r#"{"prompt": "a", "stop": [1]}"#, "`stop`"),
            (r#"{"prompt": "a", "logprobs": 1000}"#, "`logprobs`"),
            (r#"{"prompt": "a", "moerge_routes": true}"#, "needs `stream: true`"),
        ] {
            let error = completion(body).unwrap_err();
            assert!(error.contains(named), "{body}: {error}");
        }
        for (body, named) in [
            (r#"{"messages": []}"#, "the list is empty"),
            (r#"{"messages": "a"}"#, "a list of messages"),
            (r#"{"messages": [{"content": "a"}]}"#, "`role`"),
            (r#"{"messages": [{"role": "user", "content": 1}]}"#, "`content`"),
            (r#"{"messages": [{"role": "user", "content": "a"}], "tools": [{}]}"#, "`tools`"),
        ] {
            let error = chat(body).unwrap_err();
            assert!(error.contains(named), "{body}: {error}");
        }
    }

    #[test]
    fn fault_rough_edges_other_servers_spellings_are_taken() {
        assert_eq!(completion(r#"{"prompt": "a", "max_tokens": -1}"#).unwrap().max_tokens, usize::MAX);
        let penalty = completion(r#"{"prompt": "a", "repeat_penalty": 1.5}"#).unwrap().sampling.repetition_penalty;
        assert_eq!(penalty, 1.5);
        let silent = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null}]}"#;
        assert!(chat(silent).is_ok());
        assert!(chat(&silent.replace("assistant", "user")).is_err(), "a user says something");
        let calls = r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": [{"id": "x"}]}]}"#;
        assert!(chat(calls).unwrap_err().contains("tool_calls"));
    }
}
