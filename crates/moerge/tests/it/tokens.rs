//! Tokenizers that do not fit their model: a token without an embedding, and an end-of-text token that the model's configs
//! do not name.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use crate::{
    common::{command, golden, moerge_ok},
    serve::Server,
};
use serde_json::{Value, json};

/// Changes a JSON file.
fn edit(path: &Path, change: impl Fn(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// A copy of golden llama, called `model`.
fn model(dir: &Path) -> PathBuf {
    let model = dir.join("model");
    fs::create_dir_all(&model).unwrap();
    for name in
        ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
    {
        fs::copy(golden("llama").join(name), model.join(name)).unwrap();
    }
    fs::write(
        dir.join("moe.yml"),
        "base_model: model\ngate_mode: random\nexperts:\n  - source_model: model\n  - source_model: model\n    \
         noise_scale: 0.1\n",
    )
    .unwrap();
    model
}

fn add_token(model: &Path, id: u32, content: &str) {
    let token = json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true});
    edit(&model.join("tokenizer.json"), |tokenizer| {
        tokenizer["added_tokens"].as_array_mut().unwrap().push(token.clone())
    });
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const BEYOND: &str = "the tokenizer has token 160 (\"<|im_start|>\"), but the embeddings have 160 rows";

#[test]
fn fault_06_plan_and_merge_warn_of_a_token_beyond_the_embeddings_and_verify_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    add_token(&model, 160, "<|im_start|>");
    let plan = moerge_ok(dir.path(), &["plan", "moe.yml"]);
    assert!(stderr(&plan).contains(BEYOND) || String::from_utf8_lossy(&plan.stdout).contains(BEYOND), "{plan:?}");
    let merge = moerge_ok(dir.path(), &["merge", "moe.yml", "out"]);
    assert!(stderr(&merge).contains(BEYOND), "{}", stderr(&merge));
    for folder in ["model", "out"] {
        let verify = moerge_ok(dir.path(), &["verify", folder]);
        assert!(
            stderr(&verify).contains(&format!("warning: {BEYOND}; a prompt with it cannot be run")),
            "{}",
            stderr(&verify)
        );
    }
    edit(&model.join("tokenizer_config.json"), |config| {
        config["chat_template"] = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}".into();
    });
    let verify = command(dir.path(), &["verify", "model"]).output().unwrap();
    assert_eq!(verify.status.code(), Some(1));
    assert!(stderr(&verify).contains(&format!("error: {BEYOND}; the chat template uses it")), "{}", stderr(&verify));
}

/// A token that every prompt gets, and one that the template only names by a variable, or puts together.
#[test]
fn fault_06_verify_finds_a_token_beyond_the_embeddings_that_prompts_or_chats_need() {
    let used = "the chat template uses it, so no chat works";
    for (eos, template, end) in [
        ("<|im_start|>", "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}", used),
        ("</s>", "{% for m in messages %}{{ '<|im_' ~ 'start|>' }}{{ m.content }}{% endfor %}", used),
        ("</s>", "{% if tools %}<|im_start|>{% endif %}{{ messages[0].content }}", "a prompt with it cannot be run"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let model = model(dir.path());
        add_token(&model, 160, "<|im_start|>");
        edit(&model.join("tokenizer_config.json"), |config| {
            config["chat_template"] = template.into();
            config["eos_token"] = eos.into();
        });
        let verify = command(dir.path(), &["verify", "model"]).output().unwrap();
        assert_eq!(verify.status.code(), Some(i32::from(end == used)), "{template}");
        assert!(stderr(&verify).contains(&format!("{BEYOND}; {end}")), "{template}: {}", stderr(&verify));
    }

    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    edit(&model.join("tokenizer.json"), |tokenizer| {
        tokenizer["post_processor"] = json!({
            "type": "TemplateProcessing", "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "single": [{"SpecialToken": {"id": "<q>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<q>": {"id": "<q>", "ids": [170], "tokens": ["<q>"]}},
        });
    });
    let verify = command(dir.path(), &["verify", "model"]).output().unwrap();
    assert_eq!(verify.status.code(), Some(1));
    assert!(stderr(&verify).contains("it is added to every prompt, so nothing can be run"), "{}", stderr(&verify));
    for job in [&["plan", "moe.yml"][..], &["merge", "moe.yml", "out"]] {
        let output = moerge_ok(dir.path(), job);
        let expected = "the tokenizer has token 170 (\"<q>\"), but the embeddings have 160 rows";
        assert!(stderr(&output).contains(expected), "{job:?}: {}", stderr(&output));
    }
}

/// Attack A14: the message about such a token named neither the file nor the token.
#[test]
fn attack_14_a_token_beyond_the_embeddings_is_said_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    add_token(&model, 160, "<|im_start|>");
    let recipe = fs::read_to_string(dir.path().join("moe.yml")).unwrap().replace("random", "hidden");
    let prompts = "noise_scale: 0.1\n    positive_prompts: [b]\n";
    let recipe =
        recipe.replacen("source_model: model\n", "source_model: model\n    positive_prompts: [\"<|im_start|>a\"]\n", 1);
    fs::write(dir.path().join("moe.yml"), recipe.replace("noise_scale: 0.1\n", prompts)).unwrap();
    fs::write(dir.path().join("t.txt"), "a <|im_start|> b").unwrap();
    for arguments in [
        &["merge", "moe.yml", "out", "--i-understand-this-is-not-useful-without-training"][..],
        &["generate", "model", "-p", "<|im_start|>a"],
        &["eval", "model", "--text", "t.txt"],
    ] {
        let output = command(dir.path(), arguments).output().unwrap();
        let printed = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {printed}");
        let expected = "model/tokenizer.json: the tokenizer gave token 160, but the model's embeddings have 160 rows";
        assert!(printed.contains(expected) && printed.contains("<|im_start|>"), "{arguments:?}: {printed}");
    }
}

#[test]
fn fault_06_a_bos_token_that_tokenizer_json_lacks_comes_after_its_last_token() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    edit(&model.join("tokenizer_config.json"), |config| config["bos_token"] = "<|im_start|>".into());
    for arguments in [&["plan", "moe.yml"][..], &["verify", "model"]] {
        let output = moerge_ok(dir.path(), arguments);
        assert!(stderr(&output).contains(BEYOND), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn fault_06_more_rows_than_tokens_are_normal() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    edit(&model.join("tokenizer.json"), |tokenizer| {
        let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        vocab.retain(|_, id| id.as_u64().unwrap() < 100);
        let kept = vocab.clone();
        let merges = tokenizer["model"]["merges"].as_array_mut().unwrap();
        let word = |part: &Value| part.as_str().map(str::to_owned);
        merges.retain(|merge| {
            let pair = match merge {
                Value::Array(pair) => pair.iter().filter_map(word).collect::<Vec<_>>(),
                merge => merge.as_str().unwrap().split(' ').map(str::to_owned).collect(),
            };
            kept.contains_key(&pair.concat())
        });
    });
    for arguments in [&["plan", "moe.yml"][..], &["verify", "model"], &["merge", "moe.yml", "out"], &["verify", "out"]]
    {
        let output = moerge_ok(dir.path(), arguments);
        assert!(!stderr(&output).contains("rows"), "{arguments:?}: {}", stderr(&output));
    }
}

/// A model that always writes token 0, `<unk>`, here an ordinary token, which no config calls the end of a text.
fn model_that_writes_unk(dir: &Path, eos: &str) -> PathBuf {
    let model = model(dir);
    let path = model.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let place = |end: usize| 8 + length + header["lm_head.weight"]["data_offsets"][end].as_u64().unwrap() as usize;
    bytes[place(0)..place(1)].fill(0);
    fs::write(path, bytes).unwrap();
    edit(&model.join("tokenizer.json"), |tokenizer| tokenizer["added_tokens"][0]["special"] = false.into());
    edit(&model.join("tokenizer_config.json"), |config| config["eos_token"] = eos.into());
    model
}

#[test]
fn fault_07_the_eos_token_of_the_tokenizer_ends_what_generate_chat_serve_and_eval_write() {
    for (eos, expected, reason) in [("<unk>", "", "stop"), ("</s>", "<unk><unk><unk>", "length")] {
        let dir = tempfile::tempdir().unwrap();
        let model = model_that_writes_unk(dir.path(), eos);
        let out = |output: Output| String::from_utf8(output.stdout).unwrap();
        let written =
            out(moerge_ok(dir.path(), &["generate", "model", "-q", "-p", "a b", "-n", "3", "--temperature", "0"]));
        assert_eq!(written.trim(), expected);

        let mut chat = command(dir.path(), &["chat", "model", "-n", "3", "--temperature", "0"]);
        let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        chat.stdin.take().unwrap().write_all(b"hi\n").unwrap();
        assert_eq!(out(chat.wait_with_output().unwrap()).trim(), expected);

        let server = Server::start(&model, &[]);
        let answer = server.complete(&json!({"prompt": "a b", "max_tokens": 3, "temperature": 0}));
        assert_eq!(
            (&answer["choices"][0]["text"], &answer["choices"][0]["finish_reason"]),
            (&json!(expected), &json!(reason))
        );

        fs::write(dir.path().join("q.jsonl"), "{\"question\": \"a b\", \"answer\": \"7\"}\n").unwrap();
        let arguments = ["eval", "--questions", "q.jsonl", "--answer-tokens", "3", "--json", "-q", "model"];
        let scores: Value = serde_json::from_str(&out(moerge_ok(dir.path(), &arguments))).unwrap();
        assert_eq!(scores["models"][0]["answers"][0]["items"][0]["text"], expected);
    }
}

#[test]
fn fault_07_verify_mentions_an_eos_token_that_the_configs_do_not_name() {
    let dir = tempfile::tempdir().unwrap();
    model_that_writes_unk(dir.path(), "<unk>");
    let verify = moerge_ok(dir.path(), &["verify", "model"]);
    let expected = "warning: `eos_token` of the tokenizer is \"<unk>\" (0), which is not in `eos_token_id` of config.json and \
                    generation_config.json (2)";
    assert!(stderr(&verify).contains(expected), "{}", stderr(&verify));
    assert!(String::from_utf8_lossy(&verify.stdout).contains("sound"));
}
