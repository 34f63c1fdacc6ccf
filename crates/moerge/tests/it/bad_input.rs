//! What must not be lost or passed over: folders that are replaced, NaN weights, and paths that are not files.

use std::{fs, path::Path, process::Output};

use crate::common::{contents, moerge, moerge_ok, write_family};

fn refused(dir: &Path, arguments: &[&str], why: &str) {
    let output = moerge(dir, arguments);
    let message = message(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(why) && message.contains("hint:"), "{message}");
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn attack_01_force_replaces_what_moerge_made_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "random");
    let before = contents(&dir.join("a"));
    refused(dir, &["merge", "moe.yml", "a", "--force"], "lies in it");
    refused(dir, &["merge", "moe.yml", ".", "--force"], "lies in it");
    assert_eq!(contents(&dir.join("a")), before);

    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet", "--force", "--random-seed", "7"]);
    // A file that moerge did not write stays, whatever lies beside it; a record has to be one.
    for name in ["thesis.txt", "other.safetensors"] {
        fs::write(dir.join("out").join(name), "precious").unwrap();
        refused(dir, &["merge", "moe.yml", "out", "--force"], &format!("moerge did not write out/{name}"));
        fs::remove_file(dir.join("out").join(name)).unwrap();
    }
    fs::write(dir.join("a/moerge.json"), "{}").unwrap();
    refused(dir, &["merge", "moe.yml", "a", "--force"], "lies in it");
    fs::create_dir(dir.join("mine")).unwrap();
    for record in [&b"{}"[..], &fs::read(dir.join("out/moerge.json")).unwrap()] {
        fs::write(dir.join("mine/moerge.json"), record).unwrap();
        fs::write(dir.join("mine/model.safetensors"), "precious").unwrap();
        refused(dir, &["merge", "moe.yml", "mine", "--force"], "moerge did not");
    }
    fs::remove_file(dir.join("a/moerge.json")).unwrap();
    // A source inside of an output would be gone with it.
    fs::rename(dir.join("a"), dir.join("out/a")).unwrap();
    let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap();
    fs::write(dir.join("moe.yml"), recipe.replace("source_model: a\n", "source_model: out/a\n")).unwrap();
    refused(dir, &["merge", "moe.yml", "out", "--force"], "lies in it");
    assert_eq!(contents(&dir.join("out/a")), before);
}

#[test]
fn nothing_is_written_into_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "random");
    let before = contents(&dir.join("a"));
    for out in ["a/out", "./base/../a/b/out"] {
        refused(dir, &["merge", "moe.yml", out], "would be inside one of its source models");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.join("a"), dir.join("link")).unwrap();
        refused(dir, &["merge", "moe.yml", "link/out"], "would be inside one of its source models");
    }
    assert_eq!(contents(&dir.join("a")), before);
    moerge_ok(dir, &["merge", "moe.yml", "a-and-more", "--quiet"]);
}

/// The first weights of `name`'s file become NaN.
fn spoil(dir: &Path, name: &str) {
    let path = dir.join(name).join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8_lossy(&bytes[8..8 + header]).into_owned();
    let header_json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let place = &header_json["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0];
    let start = 8 + header + place.as_u64().unwrap() as usize;
    bytes[start..start + 2].copy_from_slice(&0x7fc1u16.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn weights_that_are_no_numbers_are_said_and_none_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "random");
    spoil(dir, "b");
    let output = moerge_ok(dir, &["merge", "moe.yml", "out"]);
    assert!(message(&output).contains("w3.weight has 1 NaN, as in"), "{}", message(&output));

    let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap();
    fs::write(dir.join("moe.yml"), recipe.replace("source_model: c\n", "source_model: c\n    residual_scale: 1e300\n"))
        .unwrap();
    refused(dir, &["merge", "moe.yml", "scaled"], "came out with");
    assert!(!dir.join("scaled").exists());
}

#[test]
#[cfg(unix)]
fn attack_07_a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "hidden");
    for file in ["config.json", "tokenizer_config.json"] {
        let path = dir.join("base").join(file);
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let output = moerge(dir, &["merge", "moe.yml", "out"]);
        assert!(message(&output).contains(file) && message(&output).contains("not a file"), "{}", message(&output));
        fs::remove_file(&path).unwrap();
        fs::write(&path, kept).unwrap();
    }
}

#[test]
fn verify_does_not_call_a_broken_config_sound() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "random");
    let config = dir.join("a/config.json");
    fs::write(&config, "garbage").unwrap();
    assert_eq!(moerge(dir, &["verify", "a"]).status.code(), Some(1));
    fs::remove_file(&config).unwrap();
    assert_eq!(moerge(dir, &["verify", "a"]).status.code(), Some(1));
}

#[test]
fn broken_files_are_copied_with_a_warning_each() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "random");
    fs::write(dir.join("base/generation_config.json"), "{\n  \"top_p\": .5\n}").unwrap();
    fs::write(dir.join("base/chat_template.jinja"), "{{ bos_token }}\n{% endfor %}").unwrap();
    let told = message(&moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]));
    for words in
        ["generation_config.json is not JSON: line 2, column 12: ", "chat_template.jinja is not a template: line 2: "]
    {
        assert_eq!(told.matches(words).count(), 1, "{told}");
    }
    assert_eq!(told.matches("copied as it is, and readers will refuse it").count(), 2, "{told}");
    let verify = moerge(dir, &["verify", "out"]);
    assert_eq!(verify.status.code(), Some(1), "{}", message(&verify));
}

#[test]
fn values_that_chat_ignores_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "random");
    fs::write(dir.join("a/generation_config.json"), r#"{"temperature": "hot", "top_p": 7}"#).unwrap();
    let told = message(&moerge_ok(dir, &["generate", "a", "-p", "x", "-n", "1", "--quiet"]));
    assert!(told.contains("`temperature` in generation_config.json is \"hot\"") && told.contains("`top_p`"), "{told}");
}

#[test]
fn a_damaged_record_is_no_reason_not_to_run_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "random");
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);
    fs::write(dir.join("out/moerge.json"), "[]").unwrap();
    let words = "moerge.json is not a record of moerge: line 1, column ";
    let told = message(&moerge_ok(dir, &["generate", "out", "-p", "x", "-n", "1", "--quiet"]));
    assert!(told.contains(words) && told.contains("expected an object, found a list"), "{told}");
    let inspected = moerge_ok(dir, &["inspect", "out"]);
    assert!(String::from_utf8_lossy(&inspected.stdout).contains(words), "{inspected:?}");
}

#[test]
fn too_little_text_is_said_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "self_calibrated");
    let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap();
    let lines = recipe.lines().filter(|line| !line.contains("positive_prompts"));
    let recipe = lines.collect::<Vec<_>>().join("\n");
    fs::write(dir.join("moe.yml"), format!("self_text: {{samples: 1, tokens: 1}}\n{recipe}\n")).unwrap();
    refused(dir, &["merge", "moe.yml", "out"], "too little text");
}
