//! Golden models with one thing broken, and the finding about it.

use std::{fs, path::PathBuf};

use moerge_checkpoint::{Fingerprint, LocalStorage};
use tempfile::TempDir;

use super::*;
use moerge_core::{
    progress::{Silent, Stage},
    record::TensorRecord,
};

/// A copy of a golden model that a test may damage.
fn copy(name: &str) -> TempDir {
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../moerge/tests/golden").join(name);
    let dir = TempDir::new().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn storage() -> Arc<dyn ReadStorage> {
    Arc::new(LocalStorage)
}

fn report(dir: &TempDir) -> VerifyReport {
    verify(&storage(), dir.path(), 2, &Silent).unwrap()
}

fn kinds(report: &VerifyReport) -> Vec<(Severity, FindingKind)> {
    report.findings.iter().map(|f| (f.severity, f.kind)).collect()
}

/// Writes `bytes` into the first tensor of the file.
fn poke(dir: &TempDir, bytes: &[u8]) -> String {
    let weights = Checkpoint::open(&storage(), dir.path()).unwrap();
    let first = weights.tensors().min_by_key(|t| t.offset).unwrap();
    let path = dir.path().join("model.safetensors");
    let mut file = fs::read(&path).unwrap();
    let at = first.offset as usize;
    file[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(&path, file).unwrap();
    first.name.clone()
}

fn set(dir: &TempDir, key: &str, value: Value) {
    let path = dir.path().join("config.json");
    let mut config: serde_json::Map<String, Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config.insert(key.into(), value);
    fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
}

use serde_json::{Value, json};

#[test]
fn golden_models_are_sound() {
    for name in ["llama", "llama3_rope", "mistral", "phi3", "qwen2", "qwen3", "mixtral", "qwen2_moe"] {
        let report = report(&copy(name));
        assert_eq!(report.findings, [], "{name}");
        assert!(report.bytes > 0 && report.tensors > 0 && report.family.is_some(), "{name}: {report:?}");
    }
}

#[test]
fn a_nan_is_found_in_its_tensor() {
    let dir = copy("llama");
    let name = poke(&dir, &f32::NAN.to_le_bytes());
    let report = report(&dir);
    assert_eq!(kinds(&report), [(Severity::Error, FindingKind::NotFinite)]);
    assert_eq!(report.findings[0].message, format!("{name} has 1 NaN"));
    assert!(!report.is_sound());
}

#[test]
fn shapes_and_names_follow_config_json() {
    let dir = copy("llama");
    let layers = Checkpoint::open(&storage(), dir.path()).unwrap().len();
    set(&dir, "num_hidden_layers", json!(1));
    let fewer = report(&dir);
    assert!(fewer.is_sound() && !fewer.findings.is_empty() && fewer.findings.len() < layers);
    assert!(fewer.findings.iter().all(|f| f.kind == FindingKind::Unexpected));
    set(&dir, "num_hidden_layers", json!(9));
    assert!(report(&dir).findings.iter().all(|f| f.kind == FindingKind::Missing));
    let dir = copy("llama");
    set(&dir, "vocab_size", json!(7));
    assert!(report(&dir).findings.iter().all(|f| f.kind == FindingKind::Shape));
    set(&dir, "dtype", json!("bfloat16"));
    assert!(kinds(&report(&dir)).contains(&(Severity::Warning, FindingKind::Dtype)));
}

#[test]
fn an_unknown_family_is_read_but_not_compared() {
    let dir = copy("llama");
    set(&dir, "model_type", json!("gpt9"));
    let report = report(&dir);
    assert_eq!(kinds(&report), [(Severity::Warning, FindingKind::NotChecked)]);
    assert!(report.is_sound() && report.bytes > 0);
}

#[test]
fn impossible_values_are_errors_and_what_moerge_does_not_know_is_not() {
    for (name, key, value, severity, word) in [
        ("mixtral", "num_local_experts", json!(0), Severity::Error, "above 0"),
        ("mixtral", "num_experts_per_tok", json!(9), Severity::Error, "there are 4 experts"),
        ("llama", "hidden_size", json!("wide"), Severity::Error, "whole number"),
        ("llama", "num_key_value_heads", json!(3), Severity::Error, "not a multiple"),
        ("llama", "rope_parameters", json!({"rope_type": "linear", "factor": "x"}), Severity::Error, "factor"),
        ("llama", "rope_parameters", json!({"rope_type": "spiral"}), Severity::Warning, "spiral"),
        ("llama", "hidden_act", json!("relu9"), Severity::Warning, "relu9"),
        ("llama", "mlp_bias", json!(true), Severity::Warning, "biases"),
        ("qwen2_moe", "decoder_sparse_step", json!(2), Severity::Warning, "decoder_sparse_step"),
    ] {
        let dir = copy(name);
        set(&dir, key, value);
        let report = report(&dir);
        assert_eq!(kinds(&report), [(severity, FindingKind::NotChecked)], "{key}: {report:?}");
        assert!(report.findings[0].message.contains(word), "{report:?}");
    }
    // GPT-2's config has other keys, and no `hidden_size` to find fault with.
    let dir = copy("llama");
    fs::write(dir.path().join("config.json"), r#"{"model_type": "gpt2", "n_embd": 768}"#).unwrap();
    assert!(report(&dir).is_sound());
}

#[test]
fn files_beside_the_weights_that_no_reader_takes_are_errors() {
    let whole = copy("llama");
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../moerge/tests/golden/llama/tokenizer.json");
    fs::copy(golden, whole.path().join("tokenizer.json")).unwrap();
    fs::write(whole.path().join("tokenizer_config.json"), r#"{"chat_template": "{{ bos_token }}"}"#).unwrap();
    fs::write(whole.path().join("generation_config.json"), "{}").unwrap();
    let sound = report(&whole);
    assert_eq!(
        (sound.findings.len(), sound.small_files),
        (0, ["tokenizer", "chat template", "generation config"].map(str::to_owned).to_vec())
    );
    for (name, text, words) in [
        ("generation_config.json", "{\n \"top_p\": 1,,\n}", "is not JSON: line 2, column 13"),
        ("generation_config.json", "[]", "is not a JSON object"),
        ("tokenizer_config.json", "{\n\n", "it ends in the middle of an object"),
        ("tokenizer_config.json", r#"{"chat_template": "\n{% if %}"}"#, "has a broken `chat_template`: line 2"),
        (
            "tokenizer_config.json",
            r#"{"chat_template": [{"name": "tool", "template": "{{"}]}"#,
            "broken `chat_template`",
        ),
        ("chat_template.jinja", "{% for m in messages %}", "is not a template: line 1"),
        ("chat_template.json", r#"{"chat_template": "{{"}"#, "broken `chat_template`"),
        ("tokenizer.json", "{}", "cannot be used"),
        ("tokenizer.json", "", "is not JSON"),
    ] {
        let path = whole.path().join(name);
        let kept = fs::read(&path).ok();
        fs::write(&path, text).unwrap();
        let report = report(&whole);
        assert_eq!(kinds(&report), [(Severity::Error, FindingKind::SmallFile)], "{name}: {report:?}");
        assert!(report.findings[0].message.contains(words), "{report:?}");
        match kept {
            Some(kept) => fs::write(&path, kept).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
}

#[test]
fn a_cut_file_is_an_error_that_names_it() {
    let dir = copy("llama");
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for len in [0, 5, 100, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        let report = report(&dir);
        assert_eq!(kinds(&report), [(Severity::Error, FindingKind::Unreadable)], "{len}");
        assert!(report.findings[0].message.contains("model.safetensors"), "{report:?}");
    }
}

#[test]
fn bytes_are_those_that_moerge_json_tells_of() {
    let dir = copy("llama");
    let mut record = MoergeJson::new("id", "");
    for tensor in Checkpoint::open(&storage(), dir.path()).unwrap().tensors() {
        record.tensors.push(TensorRecord {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            fingerprint: Fingerprint::of(&tensor.read().unwrap()),
            from: vec![],
        });
    }
    let path = dir.path().join(MOERGE_JSON);
    fs::write(&path, record.to_text()).unwrap();
    let whole = report(&dir);
    assert_eq!((whole.fingerprints_equal, whole.findings.len()), (Some(whole.tensors), 0));

    let name = poke(&dir, &[0x11, 0x22, 0x33, 0x44]);
    let damaged = report(&dir);
    assert_eq!(kinds(&damaged), [(Severity::Error, FindingKind::Fingerprint)]);
    assert_eq!(damaged.findings[0].tensor.as_deref(), Some(name.as_str()));

    record.tensors.pop();
    record.tensors.push(TensorRecord { name: "x".into(), ..record.tensors[0].clone() });
    fs::write(&path, record.to_text()).unwrap();
    let other = report(&dir);
    assert!(other.findings.iter().any(|f| f.kind == FindingKind::Missing && f.tensor.as_deref() == Some("x")));
    assert!(other.findings.iter().any(|f| f.kind == FindingKind::Unexpected));

    fs::write(&path, "{").unwrap();
    assert!(!report(&dir).is_sound());
}

#[test]
fn stops_when_asked_to() {
    struct Stop;
    impl Progress for Stop {
        fn start(&self, _: Stage, _: u64, _: u64) {}
        fn advance(&self, _: Stage, _: u64) {}
        fn finish(&self, _: Stage, _: &str) {}
        fn stop_requested(&self) -> bool {
            true
        }
    }
    let error = verify(&storage(), copy("llama").path(), 2, &Stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}
