//! Rendering of chat templates, and which of a model's files is used.

use super::*;

const CHATML: &str = "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}\
    {{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}\
    {{'<|im_start|>' + message['role'] + '\n' + message['content'].strip() + '<|im_end|>' + '\n'}}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn render(template: &str, messages: &[(&str, &str)]) -> Result<String> {
    let messages: Vec<Message> =
        messages.iter().map(|(r, c)| Message { role: (*r).into(), content: (*c).into() }).collect();
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "image_token": "<image>"});
    let tokens = SpecialTokens::from_config(&config);
    ChatTemplate::parse("t.jinja", template, tokens)?.render(
        &Conversation::new(&messages),
        512,
        &moerge_core::progress::Silent,
    )
}

#[test]
fn conversations_become_prompts() {
    assert_eq!(
        render(CHATML, &[("user", " Hi "), ("assistant", "Ho"), ("user", "?")]).unwrap(),
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\
         <|im_end|>\n<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n"
    );
    let mistral = "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\n\
        {{ raise_exception('roles must alternate') }}{% endif %}[INST] {{ m.content }} [/INST]{% endfor %}";
    assert_eq!(render(mistral, &[("user", "Hi")]).unwrap(), "<s>[INST] Hi [/INST]");
    let refused = render(mistral, &[("system", "x")]).unwrap_err().to_string();
    assert!(refused.contains("roles must alternate") && refused.contains("t.jinja, line 2"), "{refused}");
}

#[test]
fn templates_see_what_apply_chat_template_gives_them() {
    let seen =
        "{{ tools is defined }} {{ tools is not none }} {{ documents is none }} {{ unk_token }} {{ image_token }}";
    assert_eq!(render(seen, &[("user", "x")]).unwrap(), "True False True <unk> <image>");
}

#[test]
fn a_template_that_is_wrong_names_its_line() {
    let error = |template| render(template, &[("user", "Hi")]).unwrap_err().to_string();
    let broken = error("\n\n{% if %}");
    assert!(broken.contains("line 3") && broken.contains("broken") && !broken.contains("conversation"), "{broken}");
    assert_eq!(template_problem("{{ bos_token }}"), None);
    assert!(template_problem("\n{{ bos_token }").is_some_and(|what| what.starts_with("line 2: ")));
}

#[test]
fn nulls_of_messages_are_left_out_and_reasoning_has_every_name() {
    let message = json!({"role": "assistant", "content": null, "reasoning": "hm"});
    let expected = json!({"thinking": "hm", "role": "assistant", "reasoning": "hm", "reasoning_content": "hm"});
    assert_eq!(normalized(&message), expected);
}

/// `tests/chat_templates/golden.py` says how these were made.
#[test]
fn fault_08_small_templates_render_as_with_transformers() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/chat_templates/golden.json")).unwrap();
    let context = &golden["context"];
    let list = |name: &str| context[name].as_array().cloned();
    let conversation = Conversation {
        messages: list("messages").unwrap(),
        tools: list("tools"),
        documents: list("documents"),
        add_generation_prompt: true,
    };
    let mut different = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let template = case[0].as_str().unwrap();
        let tokens = SpecialTokens::from_config(&context["tokens"]);
        let rendered = ChatTemplate::parse("t.jinja", template, tokens)
            .and_then(|template| template.render(&conversation, 512, &moerge_core::progress::Silent));
        match (rendered, case[1].as_str()) {
            (Ok(found), Some(expected)) if found == expected => {}
            (Err(_), None) => {}
            (found, expected) => different.push(format!("{template}\n  expected {expected:?}\n  found    {found:?}")),
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}
