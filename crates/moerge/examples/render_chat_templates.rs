//! Renders conversations with chat templates: a JSON object a line on stdin, a JSON string or `{"error": ...}` a line on
//! stdout. `moerge-infer/tests/chat_templates/compare.py` compares the results with those of transformers.

use std::io::BufRead as _;

use moerge_core::progress::Silent;
use moerge_infer::{
    SpecialTokens,
    generate::{ChatTemplate, Conversation},
};
use serde_json::{Value, json};

fn main() {
    for line in std::io::stdin().lock().lines() {
        let case: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        println!("{}", render(&case).map_or_else(|error| json!({"error": error.to_string()}), Value::String));
    }
}

fn render(case: &Value) -> moerge_core::Result<String> {
    let list = |name: &str| case[name].as_array().cloned();
    let conversation = Conversation {
        messages: list("messages").unwrap_or_default(),
        tools: list("tools"),
        documents: list("documents"),
        add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap_or(false),
    };
    let tokens = SpecialTokens::from_config(&case["tokens"]);
    let source = case["template"].as_str().unwrap_or_default();
    ChatTemplate::parse("template", source, tokens)?.render(&conversation, 32_768, &Silent)
}
