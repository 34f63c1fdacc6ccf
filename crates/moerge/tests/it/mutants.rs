//! Model folders that are broken: whatever is in them, a command neither panics, nor is killed by a signal, nor hangs, nor
//! takes memory out of proportion. Half of the changes know nothing of the files, half aim at one reader. Every case
//! follows from its seed alone.
//!
//! A few seeds run with the other tests. For longer: `MUTATE_SECONDS=300 cargo test -p moerge --test it mutants -- --ignored
//! --nocapture`, and `MUTATE_SEED=n` to run one seed again and keep its folder.
#![cfg(unix)]

mod configs;
mod folder;
mod gguf;
mod hostile;
mod random;
mod running;
mod templates;
mod tokenizers;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::common::golden;
use random::Random;
use running::run;

#[test]
fn broken_folders_are_refused_in_time_and_memory() {
    (0..6).for_each(|seed| try_seed(seed, None));
}

#[test]
#[ignore = "runs for MUTATE_SECONDS, a minute by default"]
fn broken_folders_for_a_while() {
    if let Some(seed) = number("MUTATE_SEED") {
        return try_seed(seed, Some(&std::env::temp_dir().join(format!("mutant-{seed}"))));
    }
    let end = Instant::now() + Duration::from_secs(number("MUTATE_SECONDS").unwrap_or(60));
    let first = number("MUTATE_FIRST").unwrap_or(1000);
    let cases = (first..).take_while(|_| Instant::now() < end);
    all_pass(cases, |seed| if seed % 3 == 0 { try_gguf(seed) } else { try_seed(seed, None) });
}

#[test]
fn broken_gguf_files_are_refused_in_time_and_memory() {
    (0..10).for_each(try_gguf);
}

/// Attacks A3, A4, A5 and A8: one of each kind, since all of them take minutes.
#[test]
fn attack_03_04_05_08_hostile_tokenizers_and_templates_are_refused_in_time_and_memory() {
    let all = hostile::all();
    let of = |file: &str, step: usize| all.iter().filter(|h| h.file == file).step_by(step).collect::<Vec<_>>();
    let chosen = [of("tokenizer.json", 7), of("chat_template.jinja", 11)].concat();
    all_pass(chosen.into_iter(), |hostile| {
        let dir = TempDir::new().unwrap();
        write_sound(dir.path(), "llama", "hidden");
        let what = hostile.write(&dir.path().join("model"));
        let commands: [&[&str]; 2] = [&["verify", "model"], &["chat", "model", "-n", "4"]];
        run_all(dir.path(), &commands, &what);
    });
}

/// Hostile values, each in an otherwise sound folder: as many as MUTATE_SECONDS allow, or all of them once. They come in
/// an order that spreads over all files, so any part of them is of all kinds. CI begins at another one every day.
#[test]
#[ignore = "runs for MUTATE_SECONDS, or for some minutes"]
fn every_hostile_file() {
    let all = hostile::all();
    let wanted = std::env::var("MUTATE_FILE").unwrap_or_default();
    let first = number("MUTATE_FIRST").unwrap_or(0) as usize;
    let end = Instant::now() + Duration::from_secs(number("MUTATE_SECONDS").unwrap_or(3600));
    let step = (all.len() * 5 / 8..).find(|step| gcd(*step, all.len()) == 1).unwrap_or(1);
    let numbers = (first..first + all.len()).map(|n| n * step % all.len()).take_while(|_| Instant::now() < end);
    let numbers = numbers.filter(|at| all[*at].file.contains(&wanted));
    all_pass(numbers, |number| {
        let dir = TempDir::new().unwrap();
        let hostile = &all[number];
        write_sound(dir.path(), ["llama", "qwen2_moe", "phi3"][number % 3], "hidden");
        let in_adapter = hostile.file.starts_with("adapter");
        let what = hostile.write(&dir.path().join(if in_adapter { "adapter" } else { "model" }));
        let name = if in_adapter { "adapter" } else { "model" };
        run_all(dir.path(), &commands(name), &format!("hostile value {number}: {what}"));
    });
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Runs all cases, and fails with all their failures.
fn all_pass<T: Copy>(cases: impl Iterator<Item = T>, run: impl Fn(T)) {
    let (mut failures, mut count) = (Vec::new(), 0);
    for case in cases {
        count += 1;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(case))) {
            failures.push(panic.downcast_ref::<String>().cloned().unwrap_or_default());
        }
    }
    println!("{count} cases");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Breaks a copy of a model and runs every command on it.
fn try_seed(seed: u64, keep: Option<&Path>) {
    let dir = TempDir::new().unwrap();
    let root = keep.map_or_else(|| dir.path().to_owned(), Path::to_owned);
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).unwrap();
    let mut random = Random(seed);
    let family = random.pick(&["llama", "mixtral", "qwen2_moe", "qwen3", "phi3"]);
    let gate = random.pick(&["random", "hidden", "cheap_embed"]);
    write_sound(&root, family, gate);
    let adapter = random.below(4) == 0;
    let broken = root.join(if adapter { "adapter" } else { "model" });
    let change = |random: &mut Random| match random.below(2) {
        0 => folder::mutate(&broken, random),
        _ => hostile::pick(random, adapter).write(&broken),
    };
    let changes: Vec<String> = (0..=random.below(3)).map(|_| change(&mut random)).collect();
    let commands = [commands("model"), commands("adapter")].concat();
    run_all(&root, &commands, &format!("seed {seed}: {changes:?}"));
}

/// Breaks a GGUF file and runs the commands on it that read its metadata, its tensors and its tokenizer.
fn try_gguf(seed: u64) {
    let dir = TempDir::new().unwrap();
    let what = gguf::write(dir.path(), &mut Random(seed));
    fs::write(dir.path().join("stdin"), "hello there\naaaa e\n").unwrap();
    let commands: [&[&str]; 5] = [
        &["inspect", "model.gguf"],
        &["verify", "model.gguf"],
        &["generate", "model.gguf", "-p", "once upon aaaa e", "-n", "4"],
        &["export", "model.gguf", "again.gguf", "--quant", "q8_0"],
        &["export", "model.gguf", "other.gguf", "--quant", "q8_0", "--imatrix", "model.gguf"],
    ];
    run_all(dir.path(), &commands, &format!("seed {seed}: {what}"));
}

/// A model, a sound one beside it, an adapter, and recipes of both.
fn write_sound(root: &Path, family: &str, gate: &str) {
    copy(&golden(family), &root.join("model"));
    copy(&golden("llama"), &root.join("whole"));
    write_adapter(&root.join("adapter"));
    fs::write(root.join("stdin"), "hello there\naaaa e\n").unwrap();
    let recipe = |name: &str, base: &str, second: &str| {
        let text = format!(
            "base_model: {base}\ngate_mode: {gate}\nexperts:\n  - source_model: {base}\n    positive_prompts: [a b]\n  \
             - source_model: {second}\n    positive_prompts: [c d]\n"
        );
        fs::write(root.join(name), text).unwrap();
    };
    recipe("model.yml", "model", "whole");
    recipe("adapter.yml", "whole", "whole+adapter");
}

/// The commands that read the model or the adapter.
fn commands(of: &str) -> Vec<&'static [&'static str]> {
    match of {
        "model" => vec![
            &["inspect", "model"],
            &["verify", "model"],
            &["plan", "model.yml"],
            &["merge", "-q", "model.yml", "out"],
            &["generate", "model", "-p", "once upon aaaa e", "-n", "4"],
            &["chat", "model", "-n", "4"],
        ],
        _ => vec![
            &["inspect", "adapter"],
            &["verify", "adapter"],
            &["plan", "adapter.yml"],
            &["merge", "-q", "adapter.yml", "out-adapter"],
        ],
    }
}

fn run_all(root: &Path, commands: &[&[&str]], what: &str) {
    for arguments in commands {
        if let Err(problem) = run(root, arguments) {
            panic!("`moerge {}` {problem}; {what}", arguments.join(" "));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"].contains(&name) {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// A LoRA of rank 2 on every `down_proj` of golden llama.
fn write_adapter(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let config: Value = serde_json::from_slice(&fs::read(golden("llama").join("config.json")).unwrap()).unwrap();
    let number = |key: &str| config[key].as_u64().unwrap();
    let (mut header, mut end) = (Map::new(), 0);
    for layer in 0..number("num_hidden_layers") {
        for (half, shape) in [("A", [2, number("intermediate_size")]), ("B", [number("hidden_size"), 2])] {
            let begin = end;
            end += shape[0] * shape[1] * 4;
            let name = format!("base_model.model.model.layers.{layer}.mlp.down_proj.lora_{half}.weight");
            header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, end] }));
        }
    }
    let text = Value::Object(header).to_string().into_bytes();
    let numbers = (0..end / 4).flat_map(|n| (0.001 * (n % 7) as f32).to_le_bytes());
    let bytes = (text.len() as u64).to_le_bytes().into_iter().chain(text).chain(numbers).collect::<Vec<u8>>();
    fs::write(dir.join("adapter_model.safetensors"), bytes).unwrap();
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "use_rslora": false,
        "target_modules": ["down_proj"], "base_model_name_or_path": "whole", "bias": "none",
        "init_lora_weights": true, "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": null,
    });
    fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
}
