//! Small models on disk, recipes over them, and the `moerge` command, for the tests of whole runs.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use half::bf16;
use moerge_checkpoint::{
    Checkpoint, Dtype, Fingerprint, LocalStorage, ReadStorage, ShardLayout, TensorSpec, TensorView,
};
use moerge_core::model::{config::ModelConfig, families::describe};
use serde_json::{Value, json};

/// The folder of a golden model.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The examples beside the crates.
pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// A Llama config; `changes` replace or add keys.
pub fn llama(changes: &Value) -> Value {
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 160,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 1000.0,
        "tie_word_embeddings": false, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2,
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

/// Writes a model of random bf16 weights with the golden tokenizer.
pub fn write_model(dir: &Path, config: &Value, seed: u32) {
    fs::create_dir_all(dir).unwrap();
    let text = serde_json::to_string_pretty(config).unwrap();
    fs::write(dir.join("config.json"), &text).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(golden("llama").join(file), dir.join(file)).unwrap();
    }
    let config = ModelConfig::parse(&text, &dir.join("config.json")).unwrap();
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let mut specs = BTreeMap::new();
    for tensor in describe(&config).unwrap().tensors {
        let shape = tensor.stored_shape();
        specs.insert(tensor.name, shape);
    }
    let specs =
        specs.into_iter().map(|(name, shape)| TensorSpec { name, encoding: Dtype::BF16.into(), shape }).collect();
    let layout = ShardLayout::new(specs, u64::MAX).unwrap();
    let mut bytes = layout.shards[0].header.clone();
    for tensor in &layout.shards[0].tensors {
        let around = if tensor.spec.name.contains("norm") { 1.0 } else { 0.0 };
        for _ in 0..tensor.len / 2 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let x = (f64::from(state) / f64::from(u32::MAX) - 0.5) * 0.4;
            bytes.extend(bf16::from_f64(around + x).to_le_bytes());
        }
    }
    fs::write(dir.join("model.safetensors"), bytes).unwrap();
}

/// A base and three experts of it (`base`, `a`, `b`, `c`) and a recipe `moe.yml` in `dir`.
pub fn write_family(dir: &Path, gate_mode: &str) -> PathBuf {
    for (seed, name) in (1..).zip(["base", "a", "b", "c"]) {
        write_model(&dir.join(name), &llama(&json!({})), seed);
    }
    let expert = |name: &str, prompts: &str| format!("  - source_model: {name}\n    positive_prompts: [{prompts}]\n");
    let text = format!(
        "base_model: base\ngate_mode: {gate_mode}\nexperts:\n{}{}{}{}",
        expert("base", "\"a quiet day\", \"tell me\""),
        expert("a", "\"def f(x):\""),
        expert("b", "\"once upon a time there was\""),
        expert("c", "\"2 + 2 = 4\""),
    );
    let recipe = dir.join("moe.yml");
    fs::write(&recipe, text).unwrap();
    recipe
}

/// `examples/tiny/self_calibrated.yml` with less text, written to `moe.yml` in `dir`.
pub fn write_short_self_calibrated(dir: &Path) {
    let tiny = fs::canonicalize(example("tiny")).unwrap();
    let recipe = fs::read_to_string(tiny.join("self_calibrated.yml")).unwrap();
    let recipe = recipe.replace("_model: ", &format!("_model: {}/", tiny.display()));
    fs::write(dir.join("moe.yml"), format!("self_text: {{samples: 6, tokens: 32}}\n{recipe}")).unwrap();
}

/// Runs the command in `dir`.
pub fn moerge(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).output().unwrap()
}

/// The command in `dir`, not yet run.
pub fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moerge"));
    command
        .current_dir(dir)
        .args(arguments)
        .env("NO_COLOR", "1")
        .env("HF_HOME", dir.join("no-cache"))
        .env("HF_HUB_OFFLINE", "1");
    command
}

/// Runs the command and wants it to succeed.
pub fn moerge_ok(dir: &Path, arguments: &[&str]) -> Output {
    let output = moerge(dir, arguments);
    assert!(output.status.success(), "{arguments:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Fingerprint of every file below `dir`.
pub fn contents(dir: &Path) -> BTreeMap<String, Fingerprint> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        all.insert(name, Fingerprint::of(&fs::read(&path).unwrap()));
    }
    all
}

/// Copies the MoE `from` to `to` with the experts of each layer fused into one tensor, the layout that transformers 5
/// holds them in.
pub fn write_fused(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let checkpoint = Checkpoint::open(&storage, from).unwrap();
    // Fused name -> (expert, which part) -> the tensor; others stand alone.
    let mut fused: BTreeMap<String, BTreeMap<(usize, usize), TensorView>> = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        let name = tensor.name.replace("block_sparse_moe", "mlp");
        let (name, place) = match name.split_once(".experts.") {
            None => (name, (0, 0)),
            Some((block, rest)) => {
                let [expert, matrix, _] = rest.split('.').collect::<Vec<_>>()[..] else { panic!("{name}") };
                let (to, part) = match matrix {
                    "w1" | "gate_proj" => ("gate_up_proj", 0),
                    "w3" | "up_proj" => ("gate_up_proj", 1),
                    _ => ("down_proj", 0),
                };
                (format!("{block}.experts.{to}"), (expert.parse().unwrap(), part))
            }
        };
        fused.entry(name).or_default().insert(place, tensor.clone());
    }
    let specs = fused.iter().map(|(name, parts)| {
        let first = parts.values().next().unwrap();
        let mut shape = first.shape.clone();
        if name.contains(".experts.") {
            let experts = parts.keys().map(|(expert, _)| expert + 1).max().unwrap();
            shape[0] = shape[0] * parts.len() / experts;
            shape.insert(0, experts);
        }
        TensorSpec { name: name.clone(), encoding: first.dtype.into(), shape }
    });
    let layout = ShardLayout::new(specs.collect(), u64::MAX).unwrap();
    let mut bytes = layout.shards[0].header.clone();
    for tensor in &layout.shards[0].tensors {
        fused[&tensor.spec.name].values().for_each(|part| bytes.extend(part.read().unwrap()));
    }
    fs::write(to.join("model.safetensors"), bytes).unwrap();
}

/// Writes the dense model `to` that is `base` with each tensor for which `other` names a model taken from that. All have
/// the same names and shapes.
pub fn write_mixed(base: &Path, to: &Path, other: impl Fn(&str) -> Option<PathBuf>) {
    fs::create_dir_all(to).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(base.join(name), to.join(name)).unwrap();
    }
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let open = |dir: &Path| Checkpoint::open(&storage, dir).unwrap();
    let from_base = open(base);
    let specs = from_base.tensors().map(|t| TensorSpec {
        name: t.name.clone(),
        encoding: t.dtype.into(),
        shape: t.shape.clone(),
    });
    let layout = ShardLayout::new(specs.collect(), u64::MAX).unwrap();
    let mut bytes = layout.shards[0].header.clone();
    for tensor in &layout.shards[0].tensors {
        let name = &tensor.spec.name;
        let from = other(name).map(|dir| open(&dir));
        bytes.extend(from.as_ref().unwrap_or(&from_base).get(name).unwrap().read().unwrap());
    }
    fs::write(to.join("model.safetensors"), bytes).unwrap();
}

/// Copies the model `from` to `to`, with some keys of its config replaced (`None` removes one). `own_head` stores a head
/// beside the embeddings: their rows in reverse order.
pub fn write_changed(from: &Path, to: &Path, changes: &BTreeMap<String, Option<Value>>, own_head: bool) {
    fs::create_dir_all(to).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let mut config: Value = serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
    for (key, value) in changes {
        match value {
            Some(value) => config[key] = value.clone(),
            None => drop(config.as_object_mut().unwrap().remove(key)),
        }
    }
    fs::write(to.join("config.json"), config.to_string()).unwrap();
    if !own_head {
        return;
    }
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let checkpoint = Checkpoint::open(&storage, from).unwrap();
    let embeddings = checkpoint.get("model.embed_tokens.weight").unwrap();
    let mut tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        tensors.insert(tensor.name.clone(), (tensor.dtype, tensor.shape.clone(), tensor.read().unwrap()));
    }
    let row = embeddings.len as usize / embeddings.shape[0];
    let reversed = embeddings.read().unwrap().chunks(row).rev().flatten().copied().collect();
    tensors.insert("lm_head.weight".into(), (embeddings.dtype, embeddings.shape.clone(), reversed));
    write_tensors(&to.join("model.safetensors"), &tensors);
}

/// Writes a safetensors file of `tensors`: type, shape and bytes by name.
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>) {
    let spec = |(name, (dtype, shape, _)): (&String, &(Dtype, Vec<usize>, Vec<u8>))| TensorSpec {
        name: name.clone(),
        encoding: (*dtype).into(),
        shape: shape.clone(),
    };
    let layout = ShardLayout::new(tensors.iter().map(spec).collect(), u64::MAX).unwrap();
    let mut bytes = layout.shards[0].header.clone();
    layout.shards[0].tensors.iter().for_each(|tensor| bytes.extend(&tensors[&tensor.spec.name].2));
    fs::write(path, bytes).unwrap();
}

/// Writes `moe.yml` in `dir`: an MoE of this architecture with three copies of `model` as experts.
pub fn write_copies(dir: &Path, model: &Path, architecture: &str) {
    let model = model.display();
    let experts: String = ["a b", "the cat", "xyz"]
        .map(|prompt| format!("  - source_model: {model}\n    positive_prompts: [{prompt}]\n"))
        .concat();
    let recipe = format!("base_model: {model}\narchitecture: {architecture}\ngate_mode: hidden\nexperts:\n{experts}");
    fs::write(dir.join("moe.yml"), recipe).unwrap();
}
