//! Models that used to be taken for something else without a word: each test is a kind of input, run as a user would.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ReadStorage};
use moerge_core::{model::locate::HubCache, progress::Silent};
use moerge_infer::{
    decoder::{Quantisation, ResidentModel},
    model::Model,
};
use serde_json::{Value, json};

use crate::common::{golden, llama, moerge, moerge_ok, write_changed, write_model, write_tensors};

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors(dir: &Path) -> Tensors {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let checkpoint = Checkpoint::open(&storage, dir).unwrap();
    let entry = |t: &moerge_checkpoint::TensorView| (t.name.clone(), (t.dtype, t.shape.clone(), t.read().unwrap()));
    checkpoint.tensors().map(entry).collect()
}

/// Logits of the last four tokens of the golden model `ids_of`.
fn last_logits(dir: &Path, ids_of: &str) -> Vec<f32> {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let model = Model::open(&storage, ".", dir, &HubCache::from_env()).unwrap();
    let expected = Checkpoint::open_file(&storage, &golden(ids_of).join("expected.safetensors")).unwrap();
    let ids = expected.get("input_ids").unwrap().read().unwrap();
    let ids = ids.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect();
    let weights = model.weights().unwrap();
    let resident = ResidentModel::load(&*weights, Quantisation::F32, &Silent).unwrap();
    let scores = resident.logits(&resident.forward_whole(&[ids], &mut (), &Silent).unwrap()).unwrap();
    (scores.tokens() - 4..scores.tokens()).flat_map(|t| scores.token(t)).collect()
}

/// What transformers says for a case of `golden/odd_configs.py`.
fn odd(case: &str) -> Vec<f32> {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let expected = Checkpoint::open_file(&storage, &golden("odd_configs.safetensors")).unwrap();
    let bytes = expected.get(case).unwrap().read().unwrap();
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[track_caller]
fn assert_close(ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    let largest = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 1e-4, "logits differ by {largest}");
}

/// An MoE of two experts that both are `model`, in `out`; what was printed.
fn merge_with_itself(dir: &Path, model: &str, more: &str, out: &str) -> String {
    let text = format!(
        "base_model: {model}\ngate_mode: random\ndtype: float32\n{more}experts:\n- source_model: {model}\n- source_model: {model}\n"
    );
    fs::write(dir.join("moe.yml"), text).unwrap();
    let output = moerge_ok(dir, &["merge", "moe.yml", out]);
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn changed(dir: &Path, model: &str, changes: &Value, own_head: bool) -> PathBuf {
    let to = dir.join("model");
    let changes = changes.as_object().unwrap().iter();
    let changes = changes.map(|(key, value)| (key.clone(), Some(value.clone()).filter(|v| !v.is_null())));
    write_changed(&golden(model), &to, &changes.collect(), own_head);
    to
}

#[test]
fn fault_03_a_head_beside_tied_embeddings_is_used_and_said_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    changed(dir.path(), "llama3_rope", &json!({}), true);
    let printed = merge_with_itself(dir.path(), "model", "", "out");
    assert!(printed.contains("ties the head to the embeddings") && printed.contains("it is used"), "{printed}");
    assert_close(&last_logits(&dir.path().join("out"), "llama3_rope"), &odd("tied_with_a_head_of_its_own"));
    for command in [
        &["verify", "model"] as &[&str],
        &["generate", "model", "-p", "a", "-n", "1", "--temperature", "0"],
        &["plan", "moe.yml"],
    ] {
        let output = moerge_ok(dir.path(), command);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(printed.contains("lm_head.weight differs"), "{command:?}: {printed}");
    }
    // A copy of the embeddings is what transformers writes: nothing is said of it.
    let mut same = tensors(&dir.path().join("model"));
    let embeddings = same["model.embed_tokens.weight"].clone();
    same.insert("lm_head.weight".into(), embeddings);
    write_tensors(&dir.path().join("model/model.safetensors"), &same);
    let output = moerge_ok(dir.path(), &["verify", "model"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("lm_head"));
}

#[test]
fn fault_04_sliding_windows_of_some_layers_stay_those_of_the_base_in_a_qwen2_moe() {
    for (model, changes, case) in [
        (
            "qwen2",
            json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0, "layer_types": null}),
            "qwen2_windows_everywhere",
        ),
        (
            "qwen2",
            json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 2, "layer_types": null}),
            "qwen2_window_in_the_last_layer",
        ),
        (
            "qwen2",
            json!({"use_sliding_window": true, "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
            "qwen2_window_by_layer_types",
        ),
        ("mistral", json!({"sliding_window": null}), ""),
        ("mistral", json!({}), ""),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let from = changed(dir.path(), model, &changes, false);
        merge_with_itself(dir.path(), "model", "architecture: qwen\n", "out");
        let config: Value = serde_json::from_slice(&fs::read(dir.path().join("out/config.json")).unwrap()).unwrap();
        assert_eq!(config["model_type"], "qwen2_moe");
        let types = config["layer_types"].as_array().map(Vec::len);
        assert_eq!(types, Some(3), "{config}");
        let expected = if case.is_empty() { last_logits(&from, model) } else { odd(case) };
        assert_close(&last_logits(&dir.path().join("out"), model), &expected);
    }
}

#[test]
fn fault_11_quantised_weights_without_a_config_of_it_are_found_and_refused() {
    let dir = tempfile::tempdir().unwrap();
    let q = "model.layers.0.self_attn.q_proj";
    type Change<'a> = &'a dyn Fn(&mut Tensors);
    let cases: [(&str, Change); 5] = [
        ("Quanto", &|t| {
            t.remove(&format!("{q}.weight"));
            t.insert(format!("{q}.weight._data"), (Dtype::I8, vec![32, 32], vec![1; 1024]));
            t.insert(format!("{q}.weight._scale"), (Dtype::F32, vec![32, 1], vec![0; 128]));
        }),
        ("bitsandbytes int8", &|t| {
            t.insert(format!("{q}.weight"), (Dtype::I8, vec![32, 32], vec![1; 1024]));
            t.insert(format!("{q}.SCB"), (Dtype::F32, vec![32], vec![0; 128]));
        }),
        ("is F8_E4M3", &|t| {
            t.insert(format!("{q}.weight"), (Dtype::F8_E4M3, vec![32, 32], vec![0x38; 1024]));
        }),
        ("GPTQ", &|t| {
            t.remove(&format!("{q}.weight"));
            t.insert(format!("{q}.qweight"), (Dtype::I32, vec![4, 32], vec![0; 512]));
            t.insert(format!("{q}.g_idx"), (Dtype::I32, vec![32], vec![0; 128]));
        }),
        ("bitsandbytes 4-bit", &|t| {
            t.insert(format!("{q}.weight"), (Dtype::U8, vec![512, 1], vec![0; 512]));
            t.insert(format!("{q}.weight.absmax"), (Dtype::F32, vec![16], vec![0; 64]));
        }),
    ];
    for (what, change) in cases {
        write_model(&dir.path().join("model"), &llama(&json!({})), 1);
        let mut weights = tensors(&dir.path().join("model"));
        change(&mut weights);
        write_tensors(&dir.path().join("model/model.safetensors"), &weights);
        let output = moerge(dir.path(), &["verify", "model"]);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{what}: {printed}");
        for expected in [what, "no `quantization_config`", "for a quantised model, use the one it was made from"] {
            assert!(printed.contains(expected), "{what}: {printed}");
        }
        fs::write(
            dir.path().join("moe.yml"),
            "base_model: model\ngate_mode: random\nexperts:\n- source_model: model\n- source_model: model\n",
        )
        .unwrap();
        let output = moerge(dir.path(), &["plan", "moe.yml"]);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(printed.contains(what) && printed.contains("for a quantised model"), "{what}: {printed}");
    }
    // A norm by itself, and a family that moerge does not read.
    for (family, name, shape) in
        [("llama", "model.norm.weight", vec![32]), ("other", &*format!("{q}.weight"), vec![32, 32])]
    {
        write_model(&dir.path().join("model"), &llama(&json!({})), 1);
        let mut weights = tensors(&dir.path().join("model"));
        weights.insert(name.to_owned(), (Dtype::I8, shape.clone(), vec![1; shape.iter().product()]));
        write_tensors(&dir.path().join("model/model.safetensors"), &weights);
        fs::write(dir.path().join("model/config.json"), llama(&json!({"model_type": family})).to_string()).unwrap();
        let output = moerge(dir.path(), &["verify", "model"]);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{family}: {printed}");
        assert!(printed.contains(&format!("{name} is I8")), "{family}: {printed}");
    }
}

#[test]
fn fault_13_names_with_another_prefix_are_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let rename = |prefix: &'static str| {
        move |name: &str| match prefix {
            "" => name.strip_prefix("model.").unwrap_or(name).to_owned(),
            prefix => format!("{prefix}{name}"),
        }
    };
    for (prefix, why) in [
        ("module.", "DistributedDataParallel"),
        ("_orig_mod.", "torch.compile"),
        ("language_model.", "multimodal"),
        ("base_model.model.", "merge_and_unload"),
        ("", "without its head"),
        ("policy.", "rename the tensors: `policy."),
    ] {
        write_model(&dir.path().join("model"), &llama(&json!({})), 1);
        let rename = rename(prefix);
        let weights = tensors(&dir.path().join("model")).into_iter().map(|(name, t)| (rename(&name), t)).collect();
        write_tensors(&dir.path().join("model/model.safetensors"), &weights);
        for command in [&["verify", "model"] as &[&str], &["generate", "model", "-p", "a"]] {
            let output = moerge(dir.path(), command);
            let printed = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{printed}");
            assert!(printed.contains(why) && printed.contains("hint:"), "`{prefix}` {command:?}: {printed}");
            assert!(!printed.contains("download"), "{printed}");
        }
    }
}

/// Fault 13: wrappers inside the layers, and the names of other programs, were called incomplete downloads too.
#[test]
fn fault_13_names_of_wrappers_and_of_other_programs_are_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let layers = |part: &'static str| move |name: &str| name.replace(".self_attn.", &format!(".{part}.self_attn."));
    type Rename<'a> = &'a dyn Fn(&str) -> String;
    let gguf = |name: &str| {
        let name = name.replace("model.layers.", "blk.").replace("model.embed_tokens", "token_embd");
        name.replace("self_attn.q_proj", "attn_q")
    };
    let meta = |name: &str| {
        let name = name.replace("model.embed_tokens", "tok_embeddings").replace("model.layers", "layers");
        name.replace("self_attn.q_proj", "attention.wq")
    };
    let without_head = |name: &str| match name {
        "lm_head.weight" => "other.weight".to_owned(),
        name => name.replace("model.", ""),
    };
    let cases: [(&str, Rename); 8] = [
        ("torch.compile", &layers("_orig_mod")),
        ("FSDP", &layers("_fsdp_wrapped_module")),
        ("FSDP", &|name| format!("_fsdp_wrapped_module.{name}")),
        ("activation checkpointing", &layers("_checkpoint_wrapped_module")),
        ("merge_and_unload", &|name| name.replace("q_proj.weight", "q_proj.base_layer.weight")),
        ("llama.cpp", &gguf),
        ("Meta's and Mistral's", &meta),
        ("without its head", &without_head),
    ];
    for (why, rename) in cases {
        write_model(&dir.path().join("model"), &llama(&json!({})), 1);
        let weights = tensors(&dir.path().join("model")).into_iter().map(|(name, t)| (rename(&name), t)).collect();
        write_tensors(&dir.path().join("model/model.safetensors"), &weights);
        for command in [&["verify", "model"] as &[&str], &["generate", "model", "-p", "a"]] {
            let output = moerge(dir.path(), command);
            let printed = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{printed}");
            assert!(printed.contains(why) && printed.contains("hint:"), "{why} {command:?}: {printed}");
            assert!(!printed.contains("download"), "{printed}");
        }
    }
}

#[test]
fn fault_12_the_text_part_of_a_multimodal_model_is_read_by_whatever_prefix_it_has() {
    let dir = tempfile::tempdir().unwrap();
    for (model_prefix, head) in [
        ("language_model.model.", "language_model.lm_head"),
        ("model.language_model.", "lm_head"),
        ("model.text_model.", "lm_head"),
        ("model.language_model.model.", "model.language_model.lm_head"),
    ] {
        let from = golden("mistral");
        let to = dir.path().join("model");
        write_changed(&from, &to, &BTreeMap::new(), false);
        let text: Value = serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
        let whole = json!({"model_type": "mistral3", "vision_config": {"hidden_size": 8}, "text_config": text});
        fs::write(to.join("config.json"), whole.to_string()).unwrap();
        let rename = |name: String| match name.strip_prefix("model.") {
            Some(rest) => format!("{model_prefix}{rest}"),
            None => name.replacen("lm_head", head, 1),
        };
        let weights = tensors(&from).into_iter().map(|(name, t)| (rename(name), t)).collect();
        write_tensors(&to.join("model.safetensors"), &weights);
        let plain = last_logits(&from, "mistral");
        assert_close(&last_logits(&to, "mistral"), &plain);
        merge_with_itself(dir.path(), "model", "", "out");
        assert_close(&last_logits(&dir.path().join("out"), "mistral"), &plain);
        fs::remove_dir_all(dir.path().join("out")).unwrap();
    }
}

#[test]
fn fault_13_values_too_large_for_float16_name_the_type_that_holds_them() {
    let dir = tempfile::tempdir().unwrap();
    write_model(&dir.path().join("model"), &llama(&json!({})), 1);
    let mut weights = tensors(&dir.path().join("model"));
    let norm = weights.get_mut("model.norm.weight").unwrap();
    // 1e6 in bfloat16.
    norm.2[..2].copy_from_slice(&[0x74, 0x49]);
    write_tensors(&dir.path().join("model/model.safetensors"), &weights);
    let text = "base_model: model\ngate_mode: random\ndtype: float16\nexperts:\n- source_model: model\n- source_model: model\n";
    fs::write(dir.path().join("moe.yml"), text).unwrap();
    let output = moerge(dir.path(), &["merge", "moe.yml", "out"]);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("model.norm.weight") && printed.contains("`dtype: bfloat16`"), "{printed}");
    assert!(!dir.path().join("out").exists());
}
