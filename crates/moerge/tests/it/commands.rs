//! The command as a user meets it: sessions in `cmd/*.trycmd`, and runs on models that a test has damaged.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn moerge(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_moerge")).args(args).current_dir(dir).output().unwrap()
}

/// stdout, stderr and exit code in one text.
fn transcript(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!("{}{}exit code {}", text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

/// A golden model in a folder called `model`, which a test may damage.
fn copy_of(name: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let model = dir.path().join("model");
    fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden(name).join(file), model.join(file)).unwrap();
    }
    dir
}

#[test]
fn sessions() {
    // No session asks the real Hub.
    trycmd::TestCases::new().env("HF_HUB_OFFLINE", "1").case("tests/cmd/*.trycmd");
}

#[test]
fn verify_tells_of_all_damage_in_one_pass() {
    let dir = copy_of("llama");
    let path = dir.path().join("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 8;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let config = dir.path().join("model/config.json");
    let text = fs::read_to_string(&config).unwrap().replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4");
    fs::write(&config, text).unwrap();
    insta::assert_snapshot!(transcript(&moerge(&["verify", "-q", "model"], dir.path())), @r"
    error: model.layers.3.input_layernorm.weight is missing: config.json requires it with shape [32]
    error: model.layers.3.mlp.down_proj.weight is missing: config.json requires it with shape [32, 56]
    error: model.layers.3.mlp.gate_proj.weight is missing: config.json requires it with shape [56, 32]
    error: model.layers.3.mlp.up_proj.weight is missing: config.json requires it with shape [56, 32]
    error: model.layers.3.post_attention_layernorm.weight is missing: config.json requires it with shape [32]
      and 4 more like this (use --json to see all)
    error: model.norm.weight has 1 NaN
    exit code 1
    ");
    let json = moerge(&["verify", "--json", "model"], dir.path());
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json.status.code(), Some(1));
    assert_eq!(report["findings"].as_array().unwrap().len(), 10);
}

#[test]
fn a_cut_file_is_named() {
    let dir = copy_of("llama");
    let path = dir.path().join("model/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    insta::assert_snapshot!(transcript(&moerge(&["verify", "model"], dir.path())), @r"
    error: model/model.safetensors: tensor `model.layers.0.self_attn.q_proj.weight` ends at byte 75992, but the file has only 73132 bytes
      hint: the download is incomplete; download this file again
    exit code 1
    ");
    insta::assert_snapshot!(transcript(&moerge(&["inspect", "model"], dir.path())), @r"
    error: model/model.safetensors: tensor `model.layers.0.self_attn.q_proj.weight` ends at byte 75992, but the file has only 73132 bytes
      hint: the download is incomplete; download this file again
    exit code 1
    ");
}

/// Names in a file from a stranger cannot drive the reader's terminal.
#[test]
fn escape_sequences_in_names_do_not_reach_the_terminal() {
    let dir = TempDir::new().unwrap();
    let header = br#"{"a\u001b[2J\u0007":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.push(0);
    fs::write(dir.path().join("model.safetensors"), file).unwrap();
    fs::write(dir.path().join("config.json"), r#"{"model_type": "\u001b[31mred"}"#).unwrap();
    for command in ["inspect", "verify"] {
        let output = moerge(&[command, "."], dir.path());
        let text = transcript(&output);
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    }
}

#[test]
fn fault_rough_edges_completions_and_manual_are_there_for_every_command() {
    let dir = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = transcript(&moerge(&["completions", shell], dir.path()));
        assert!(script.contains("out-shard-size"), "{shell}");
        // Scripts for Elvish and PowerShell list no values of options.
        assert!(script.contains("q4_k") || ["elvish", "powershell"].contains(&shell), "{shell}");
    }
    let page = transcript(&moerge(&["man"], dir.path()));
    for word in ["moerge", "merge", "plan", "inspect", "verify", "out\\-shard\\-size"] {
        assert!(page.contains(word), "{word}");
    }
    for title in [".SH EXAMPLES", ".SS EXAMPLES", ".SH \"EXIT STATUS\"", ".SH ENVIRONMENT"] {
        assert!(page.contains(title), "{title}");
    }
    assert!(!page.lines().any(|line| line.ends_with(" EXTRA")));
    moerge(&["man", "--out", "pages"], dir.path());
    let mut pages: Vec<String> = fs::read_dir(dir.path().join("pages"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    let commands = [
        "chat",
        "completions",
        "diff",
        "eval",
        "extract-lora",
        "generate",
        "inspect",
        "man",
        "merge",
        "plan",
        "pull",
        "route",
        "serve",
        "verify",
    ];
    for page in commands.iter().map(|c| format!("moerge-{c}.1")).chain(["moerge.1".to_owned()]) {
        assert!(pages.contains(&page), "{page} is not among {pages:?}");
    }
}

/// A folder's name cannot look like a line of moerge's own.
#[test]
#[cfg(unix)]
fn attack_14_line_breaks_in_names_are_escaped() {
    let dir = TempDir::new().unwrap();
    let text = transcript(&moerge(&["verify", "x\nerror: all is lost"], dir.path()));
    assert!(text.starts_with("error: x\\nerror: all is lost does not exist\n"), "{text}");
    // In tables, and in the names of tensors.
    let dir = copy_of("llama");
    fs::rename(dir.path().join("model"), dir.path().join("x\nerror: lost")).unwrap();
    let recipe = r#"{base_model: "x\nerror: lost", gate_mode: random, experts: [{source_model: "x\nerror: lost"}, {source_model: "x\nerror: lost", noise_scale: 0.1}]}"#;
    fs::write(dir.path().join("moe.yml"), recipe).unwrap();
    let text = transcript(&moerge(&["plan", "moe.yml"], dir.path()));
    assert!(text.contains("x\\nerror: lost") && !text.contains("\nerror: lost"), "{text}");
    let path = dir.path().join("x\nerror: lost/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header = String::from_utf8_lossy(&bytes[8..8 + length]).replace("model.norm.weight", "model.\\nerror: lost");
    fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[8 + length..]].concat())
        .unwrap();
    let text = transcript(&moerge(&["verify", "x\nerror: lost"], dir.path()));
    assert!(text.contains("model.\\nerror: lost is not part") && !text.contains("\nerror: lost"), "{text}");
}

#[test]
fn fault_rough_edges_a_token_with_a_space_is_reported() {
    let dir = copy_of("llama");
    fs::write(dir.path().join("moe.yml"), "base_model: model\ngate_mode: random\nexperts: [{source_model: model}]\n")
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_moerge"));
    command.args(["plan", "moe.yml"]).current_dir(dir.path()).env("HF_TOKEN", "hf_a b").env("HF_HUB_OFFLINE", "1");
    let text = transcript(&command.output().unwrap());
    assert!(text.contains("warning: the token in HF_TOKEN is ignored: it contains a space"), "{text}");
}

/// `moerge inspect out | head -1`
#[test]
#[cfg(unix)]
fn a_closed_pipe_is_no_error() {
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_moerge"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
