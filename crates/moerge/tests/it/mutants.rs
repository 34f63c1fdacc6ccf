//! Model folders that are broken at random: whatever is in them, a command neither panics, nor is killed by a signal, nor
//! hangs, nor takes memory out of proportion. Every case follows from its seed alone.
//!
//! A few seeds run with the other tests. For longer: `MUTATE_SECONDS=300 cargo test -p moerge --test it mutants -- --ignored
//! --nocapture`, and `MUTATE_SEED=n` to run one seed again and keep its folder.
#![cfg(unix)]

use std::{
    fs,
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::common::golden;

/// Time for one command on a busy machine.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Peak of resident memory; golden models take a tenth of it.
const MAX_RESIDENT: u64 = 500 << 20;
/// Address space, which catches an allocation that is never touched.
const MAX_ADDRESS_SPACE: u64 = 6 << 30;

#[test]
fn broken_folders_are_refused_in_time_and_memory() {
    (0..6).for_each(|seed| try_seed(seed, None));
}

#[test]
#[ignore = "runs for MUTATE_SECONDS, a minute by default"]
fn broken_folders_for_a_while() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(seed) = number("MUTATE_SEED") {
        return try_seed(seed, Some(&std::env::temp_dir().join(format!("mutant-{seed}"))));
    }
    let end = Instant::now() + Duration::from_secs(number("MUTATE_SECONDS").unwrap_or(60));
    let first = number("MUTATE_FIRST").unwrap_or(1000);
    let mut failures = Vec::new();
    let mut seed = first;
    while Instant::now() < end {
        if let Err(panic) = std::panic::catch_unwind(|| try_seed(seed, None)) {
            failures.push(panic.downcast_ref::<String>().cloned().unwrap_or_default());
        }
        seed += 1;
    }
    println!("{} seeds from {first} on", seed - first);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Breaks a copy of a model and runs every command on it.
fn try_seed(seed: u64, keep: Option<&Path>) {
    let dir = TempDir::new().unwrap();
    let root = keep.map_or_else(|| dir.path().to_owned(), Path::to_owned);
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).unwrap();
    let mut random = Random(seed);
    let model = root.join("model");
    copy(&golden(random.pick(&["llama", "mixtral", "qwen2_moe", "qwen3", "phi3"])), &model);
    copy(&golden("llama"), &root.join("whole"));
    write_adapter(&root.join("adapter"));
    let broken = if random.below(4) == 0 { root.join("adapter") } else { model };
    let changes: Vec<String> = (0..=random.below(3)).map(|_| mutate(&broken, &mut random)).collect();
    let gate = random.pick(&["random", "hidden", "cheap_embed"]);
    let recipe = |name: &str, base: &str, second: &str| {
        let text = format!(
            "base_model: {base}\ngate_mode: {gate}\nexperts:\n  - source_model: {base}\n    positive_prompts: [a b]\n  \
             - source_model: {second}\n    positive_prompts: [c d]\n"
        );
        fs::write(root.join(name), text).unwrap();
    };
    recipe("model.yml", "model", "whole");
    recipe("adapter.yml", "whole", "whole+adapter");
    for arguments in [
        &["inspect", "model"][..],
        &["inspect", "adapter"],
        &["verify", "model"],
        &["plan", "model.yml"],
        &["plan", "adapter.yml"],
        &["merge", "-q", "model.yml", "out"],
        &["merge", "-q", "adapter.yml", "out-adapter"],
        &["generate", "model", "-p", "once upon", "-n", "4"],
    ] {
        if let Err(problem) = run(&root, arguments) {
            panic!("seed {seed}: `moerge {}` {problem}; changes: {changes:?}", arguments.join(" "));
        }
    }
}

/// What is wrong with how a command ended.
fn run(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let stderr = root.join("stderr");
    let mut child = Command::new("prlimit")
        .args([&format!("--as={MAX_ADDRESS_SPACE}"), "--core=0", env!("CARGO_BIN_EXE_moerge")])
        .args(arguments)
        .current_dir(root)
        .env("NO_COLOR", "1")
        .env("HF_HOME", root.join("no-cache"))
        .env("HF_HUB_OFFLINE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    let status = wait(&mut child)?;
    let printed = String::from_utf8_lossy(&fs::read(&stderr).unwrap()).into_owned();
    let shown = || printed.chars().take(600).collect::<String>();
    match status.code() {
        _ if status.signal().is_some() => Err(format!("was killed by signal {:?}\n{}", status.signal(), shown())),
        Some(0..=2) if printed.contains("panicked at") => Err(format!("panicked in a thread\n{}", shown())),
        Some(0..=2) if printed.contains('\u{1b}') => Err(format!("printed an escape character\n{}", shown())),
        Some(0..=2) => Ok(()),
        code => Err(format!("exited with {code:?}\n{}", shown())),
    }
}

fn wait(child: &mut Child) -> Result<ExitStatus, String> {
    let begin = Instant::now();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Ok(status);
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        let problem = if peak.is_some_and(|kib: u64| kib * 1024 > MAX_RESIDENT) {
            format!("took {} MiB", peak.unwrap_or(0) >> 10)
        } else if begin.elapsed() > MAX_TIME {
            format!("ran for more than {} s", MAX_TIME.as_secs())
        } else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let _ = child.kill();
        let _ = child.wait();
        return Err(problem);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Changes one thing in a folder; what it was.
fn mutate(dir: &Path, random: &mut Random) -> String {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()).collect();
    files.sort();
    if files.is_empty() {
        return "nothing".into();
    }
    let file = files[random.below(files.len())].clone();
    let other = files[random.below(files.len())].clone();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    if !file.metadata().is_ok_and(|m| m.len() < 64 << 20) {
        return "nothing".into();
    }
    let Ok(mut bytes) = fs::read(&file) else { return "nothing".into() };
    match random.below(16) {
        0..=5 if name.ends_with(".json") => {
            let Ok(mut value) = serde_json::from_slice::<Value>(&bytes) else { return "nothing".into() };
            let what = mutate_json(&mut value, random);
            fs::write(&file, value.to_string()).unwrap();
            return format!("{name}: {what}");
        }
        0..=5 if name.ends_with(".safetensors") => {
            let what = mutate_header(&mut bytes, random);
            fs::write(&file, bytes).unwrap();
            return format!("{name}: {what}");
        }
        0..=7 => {
            for _ in 0..=random.below(8) {
                let at = random.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
            fs::write(&file, bytes).unwrap();
        }
        8 => {
            bytes.truncate(random.below(bytes.len()));
            fs::write(&file, bytes).unwrap();
        }
        9 => {
            bytes.extend((0..random.below(5000)).map(|_| b'{'));
            fs::write(&file, bytes).unwrap();
        }
        10 => fs::remove_file(&file).unwrap(),
        11 => fs::rename(&file, &other).unwrap(),
        12 => {
            fs::copy(&file, &other).unwrap_or_default();
        }
        13 => {
            fs::remove_file(&file).unwrap();
            Command::new("mkfifo").arg(&file).status().unwrap();
            return format!("{name}: a pipe");
        }
        14 => {
            fs::remove_file(&file).unwrap();
            let target = random.pick(&["/dev/zero", "/dev/full", "nowhere", "..", "/proc/self/mem"]);
            symlink(if target == "nowhere" { name.as_str() } else { target }, &file).unwrap();
            return format!("{name}: a link to {target}");
        }
        _ => {
            let odd =
                dir.join(random.pick(&["a\n\u{1b}[31mb", "model-00001-of-00002.safetensors", "adapter_config.json"]));
            fs::copy(&file, odd).unwrap();
        }
    }
    format!("{name}: bytes or name")
}

/// A value where software rarely expects it.
fn odd_value(random: &mut Random) -> Value {
    match random.below(16) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(0),
        3 => json!(1),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(1e308),
        7 => json!(1u64 << random.below(63)),
        8 => json!(""),
        9 => json!("a\n\u{1b}[31mb\u{202e}"),
        10 => json!("x".repeat(100_000)),
        11 => (0..100).fold(json!([]), |inner, _| json!([inner])),
        12 => json!({}),
        13 => json!([]),
        14 => json!(true),
        _ => json!(1e-320),
    }
}

/// Changes one node of a JSON value.
fn mutate_json(value: &mut Value, random: &mut Random) -> String {
    let paths = {
        let mut paths = Vec::new();
        collect(value, String::new(), &mut paths);
        paths
    };
    // Half of the time near the root: deep nodes outnumber those that matter.
    let shallow: Vec<&String> = paths.iter().filter(|p| p.matches('/').count() <= 2).collect();
    let path = if random.below(2) == 0 && !shallow.is_empty() {
        shallow[random.below(shallow.len())].clone()
    } else {
        paths[random.below(paths.len())].clone()
    };
    let (parent, key) = path.rsplit_once('/').unwrap_or_default();
    let shown = path.chars().take(80).collect::<String>();
    match random.below(8) {
        0 => {
            if let Some(Value::Object(map)) = value.pointer_mut(parent) {
                map.shift_remove(key);
            }
            format!("{shown} removed")
        }
        1 => {
            if let Some(Value::Array(list)) = value.pointer_mut(&path) {
                let copy = list.clone();
                list.extend(copy);
            }
            format!("{shown} doubled")
        }
        2 => {
            if let Some(Value::Object(map)) = value.pointer_mut(parent)
                && let Some(taken) = map.shift_remove(key)
            {
                map.insert(format!("{key}\n"), taken);
            }
            format!("{shown} renamed")
        }
        _ => {
            let odd = odd_value(random);
            let text = odd.to_string().chars().take(40).collect::<String>();
            if let Some(node) = value.pointer_mut(&path) {
                *node = odd;
            }
            format!("{shown} = {text}")
        }
    }
}

fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    let segment = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| collect(inner, segment(key), paths)),
        Value::Array(list) => {
            list.iter().enumerate().take(50).for_each(|(i, inner)| collect(inner, segment(&i.to_string()), paths));
        }
        _ => {}
    }
    paths.push(path);
}

/// Changes the header of a safetensors file, or the length that it claims.
fn mutate_header(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let length = bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b) as usize);
    let header = bytes.get(8..8usize.saturating_add(length)).and_then(|h| serde_json::from_slice::<Value>(h).ok());
    let (Some(mut header), true) = (header, random.below(5) > 0) else {
        let claimed = random.pick(&[0, 1, 99_999_999, 100_000_001, u64::MAX, i64::MAX as u64]);
        bytes.splice(..8.min(bytes.len()), claimed.to_le_bytes());
        return format!("a header of {claimed} bytes");
    };
    let what = mutate_json(&mut header, random);
    let text = header.to_string().into_bytes();
    let head = [(text.len() as u64).to_le_bytes().to_vec(), text].concat();
    bytes.splice(..8 + length, head);
    what
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
