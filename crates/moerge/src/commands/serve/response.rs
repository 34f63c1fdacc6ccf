//! Answers as OpenAI's API has them: whole, or piece by piece.

use serde_json::{Map, Value, json};

use super::event::{Reason, Scored, Token, Usage};

/// Which of the two kinds of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Completion,
    Chat,
}

/// What all JSON of one answer begins with.
#[derive(Debug, Clone)]
pub struct Head {
    pub kind: Endpoint,
    pub id: String,
    pub model: String,
    /// Seconds since 1970.
    pub created: u64,
}

/// A text as it becomes complete.
#[derive(Debug, Default)]
pub struct Choice {
    text: String,
    scored: Vec<Scored>,
    reason: Option<Reason>,
}

impl Choice {
    pub fn push(&mut self, token: Token) {
        self.text.push_str(&token.text);
        self.scored.extend(token.scored);
    }

    pub fn end(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }
}

impl Head {
    /// The whole answer.
    pub fn whole(&self, choices: Vec<Choice>, logprobs: bool, usage: Usage) -> Value {
        let choice = |(index, choice): (usize, Choice)| {
            let logprobs = if logprobs { self.logprobs(choice.scored) } else { Value::Null };
            let mut fields = Map::new();
            fields.insert("index".into(), index.into());
            match self.kind {
                Endpoint::Completion => fields.insert("text".into(), choice.text.into()),
                Endpoint::Chat => {
                    fields.insert("message".into(), json!({ "role": "assistant", "content": choice.text }))
                }
            };
            fields.insert("logprobs".into(), logprobs);
            fields.insert("finish_reason".into(), choice.reason.map(Reason::name).into());
            Value::Object(fields)
        };
        let choices: Vec<Value> = choices.into_iter().enumerate().map(choice).collect();
        self.json(false, choices, Some(usage))
    }

    /// The first piece of a stream, where it has one.
    pub fn first(&self) -> Option<Value> {
        (self.kind == Endpoint::Chat).then(|| {
            let delta = json!({ "role": "assistant", "content": "" });
            self.json(true, vec![json!({ "index": 0, "delta": delta, "finish_reason": null })], None)
        })
    }

    /// A piece of a stream.
    pub fn piece(&self, choice: usize, token: Token) -> Value {
        let logprobs = token.scored.map_or(Value::Null, |scored| self.logprobs(vec![scored]));
        let mut piece = self.stream_choice(choice, Some(token.text), logprobs, None);
        if let Some(layers) = token.routes {
            let rounded = |weight: f32| (f64::from(weight) * 1e4).round() / 1e4;
            let layer = |l: Vec<(usize, f32)>| l.into_iter().map(|(e, w)| json!([e, rounded(w)])).collect::<Vec<_>>();
            let experts: Vec<Vec<Value>> = layers.into_iter().map(layer).collect();
            piece["moerge"] = json!({ "experts": experts });
        }
        piece
    }

    /// The piece that ends a text.
    pub fn end(&self, choice: usize, reason: Reason) -> Value {
        self.stream_choice(choice, None, Value::Null, Some(reason))
    }

    /// The piece with the counts of tokens.
    pub fn usage(&self, usage: Usage) -> Value {
        self.json(true, Vec::new(), Some(usage))
    }

    fn stream_choice(&self, index: usize, text: Option<String>, logprobs: Value, reason: Option<Reason>) -> Value {
        let reason = reason.map(Reason::name);
        let choice = match self.kind {
            Endpoint::Completion => json!({
                "index": index, "text": text.unwrap_or_default(), "logprobs": logprobs, "finish_reason": reason,
            }),
            Endpoint::Chat => {
                let delta = text.map_or(json!({}), |text| json!({ "content": text }));
                json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason })
            }
        };
        self.json(true, vec![choice], None)
    }

    fn json(&self, stream: bool, choices: Vec<Value>, usage: Option<Usage>) -> Value {
        let object = match (self.kind, stream) {
            (Endpoint::Completion, _) => "text_completion",
            (Endpoint::Chat, false) => "chat.completion",
            (Endpoint::Chat, true) => "chat.completion.chunk",
        };
        let mut whole = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        });
        if let Some(Usage { prompt, completion }) = usage {
            whole["usage"] = json!({
                "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            });
        }
        whole
    }

    fn logprobs(&self, scored: Vec<Scored>) -> Value {
        match self.kind {
            Endpoint::Completion => completion_logprobs(&scored),
            Endpoint::Chat => json!({ "content": scored.iter().map(chat_logprob).collect::<Vec<_>>() }),
        }
    }
}

fn completion_logprobs(scored: &[Scored]) -> Value {
    let top = |scored: &Scored| -> Value {
        let Some(logprob) = scored.logprob else { return Value::Null };
        let mut top: Map<String, Value> = scored.top.iter().map(|(name, p)| (name.clone(), (*p).into())).collect();
        // The chosen token is always among them.
        top.entry(scored.name.clone()).or_insert(logprob.into());
        top.into()
    };
    json!({
        "tokens": scored.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
        "token_logprobs": scored.iter().map(|s| s.logprob).collect::<Vec<_>>(),
        "top_logprobs": scored.iter().map(top).collect::<Vec<_>>(),
        "text_offset": scored.iter().map(|s| s.offset).collect::<Vec<_>>(),
    })
}

fn chat_logprob(scored: &Scored) -> Value {
    let one = |name: &str, logprob: Option<f32>| json!({ "token": name, "logprob": logprob, "bytes": name.as_bytes() });
    let mut whole = one(&scored.name, scored.logprob);
    whole["top_logprobs"] = scored.top.iter().map(|(name, p)| one(name, Some(*p))).collect();
    whole
}
