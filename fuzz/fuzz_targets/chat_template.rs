//! Any text as a chat template: it is parsed or refused, and renders conversations within its limits or says why not.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use moerge_core::progress::Silent;
use moerge_infer::{
    SpecialTokens,
    generate::{ChatTemplate, Conversation, max_prompt_bytes},
};
use serde_json::{Value, json};

const CONTEXT: usize = 64;

static CONVERSATIONS: LazyLock<[Conversation; 2]> = LazyLock::new(|| {
    let list = |value: Value| value.as_array().cloned().unwrap_or_default();
    let plain = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi & <you>, it's\n 5"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello!"},
        {"role": "user", "content": ""},
    ]);
    let called = json!([
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"type": "function", "id": "abc", "function": {"name": "weather", "arguments": {"days": 2, "x": -0.5}}},
        ]},
        {"role": "tool", "name": "weather", "content": "{\"sun\": true}"},
    ]);
    let tools = json!([{"type": "function", "function": {
        "name": "weather", "description": "Zürich & more",
        "parameters": {"type": "object", "properties": {"days": {"type": ["integer", "null"]}}},
    }}]);
    let plain = Conversation { messages: list(plain), add_generation_prompt: true, ..Conversation::default() };
    let called = Conversation {
        messages: list(called),
        tools: Some(list(tools)),
        documents: Some(list(json!([{"title": "T", "text": "Some text"}]))),
        add_generation_prompt: false,
    };
    [plain, called]
});

fuzz_target!(|text: &str| {
    let tokens = SpecialTokens::from_config(&json!({"bos_token": "<s>", "eos_token": "</s>"}));
    let Ok(template) = ChatTemplate::parse("fuzz", text, tokens) else { return };
    for conversation in CONVERSATIONS.iter() {
        match template.render(conversation, CONTEXT, &Silent) {
            Ok(prompt) => assert!(prompt.len() <= max_prompt_bytes(CONTEXT)),
            Err(error) => {
                let message = error.to_string();
                assert!(!message.contains("bug in moerge"), "{message}");
                assert!(!message.contains('\u{1b}') && message.len() < 4096, "{message}");
            }
        }
    }
});
