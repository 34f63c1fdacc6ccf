//! `moerge extract-lora`: an adapter from the difference of two models, by the eyes of `moerge merge`, `moerge diff` and
//! PEFT (`golden/extract_lora.py`).

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, thread::sleep, time::Duration};

use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ReadStorage};
use serde_json::{Value, json};

use crate::common::{command, contents, golden, llama, moerge, moerge_ok, write_changed, write_model, write_tensors};

/// A number between -0.5 and 0.5 for each element.
fn random(seed: u32, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 - 0.5
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// Writes `tuned`: golden llama with a difference of rank `rank` in the matrices of layers that `changed` names, and more
/// noise where `noise` says so.
fn write_tuned(dir: &Path, rank: usize, changed: impl Fn(&str) -> bool, norms: bool) {
    let to = dir.join("tuned");
    write_changed(&golden("llama"), &to, &BTreeMap::new(), false);
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let mut tensors = BTreeMap::new();
    for (seed, tensor) in (1..).zip(Checkpoint::open(&storage, &golden("llama")).unwrap().tensors()) {
        let mut values: Vec<f32> =
            tensor.read().unwrap().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if let ([rows, columns], true, true) =
            (&tensor.shape[..], tensor.name.contains(".layers."), changed(&tensor.name))
        {
            let (b, a) = (random(seed, rows * rank), random(seed + 1000, rank * columns));
            for (at, x) in values.iter_mut().enumerate() {
                let (i, j) = (at / columns, at % columns);
                *x += (0..rank).map(|k| b[i * rank + k] * a[k * columns + j]).sum::<f32>() * 0.2;
            }
        } else if norms && tensor.name.contains("norm") {
            values.iter_mut().for_each(|x| *x *= 1.5);
        }
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensors.insert(tensor.name.clone(), (Dtype::F32, tensor.shape.clone(), bytes));
    }
    write_tensors(&to.join("model.safetensors"), &tensors);
}

fn base() -> String {
    golden("llama").display().to_string()
}

fn extract(dir: &Path, more: &[&str]) -> Value {
    let base = base();
    let arguments = [&["extract-lora", "tuned", "--base", &base, "lora", "--json"], more].concat();
    let output = moerge_ok(dir, &arguments);
    let last = output.stdout.split(|b| *b == b'\n').rfind(|line| !line.is_empty()).unwrap();
    serde_json::from_slice(last).unwrap()
}

fn config(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("lora/adapter_config.json")).unwrap()).unwrap()
}

/// The largest relative difference of a tensor of `a` and `b`.
fn furthest(dir: &Path, a: &str, b: &str) -> f64 {
    let report: Value = serde_json::from_slice(&moerge_ok(dir, &["diff", a, b, "--json"]).stdout).unwrap();
    let tensors = report["tensors"].as_array().unwrap();
    tensors.iter().map(|t| t["distance"]["relative"].as_f64().unwrap()).fold(0.0, f64::max)
}

#[test]
fn a_difference_of_low_rank_is_recovered_and_merging_gives_the_model_back() {
    let dir = tempfile::tempdir().unwrap();
    write_tuned(dir.path(), 8, |_| true, false);
    let report = extract(dir.path(), &["--rank", "8"]);
    assert_eq!(report["matrices"].as_array().unwrap().len(), 21);
    assert!(report["energy"].as_f64().unwrap() > 1.0 - 1e-6 && report["left_out"] == json!([]), "{report}");
    let config = config(dir.path());
    let modules = json!(["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]);
    assert_eq!((&config["r"], &config["lora_alpha"], &config["target_modules"]), (&8.into(), &8.into(), &modules));
    assert_eq!((&config["rank_pattern"], &config["peft_type"]), (&json!({}), &"LORA".into()));
    let (adapted, with) = (format!("{}+lora", base()), furthest(dir.path(), "tuned", &base()));
    assert!(with > 0.1 && furthest(dir.path(), "tuned", &adapted) < 1e-5, "{with}");
    fs::write(dir.path().join("recipe.yml"), format!("merge_method: passthrough\nmodels: [{{model: {adapted}}}]\n"))
        .unwrap();
    moerge_ok(dir.path(), &["merge", "recipe.yml", "out"]);
    assert!(furthest(dir.path(), "tuned", "out") < 1e-5);
}

#[test]
fn the_reported_remainder_is_what_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    write_tuned(dir.path(), 16, |_| true, false);
    let report = extract(dir.path(), &["--rank", "4"]);
    let adapted = format!("{}+lora", base());
    let diff: Value =
        serde_json::from_slice(&moerge_ok(dir.path(), &["diff", &adapted, "tuned", "--json"]).stdout).unwrap();
    for matrix in report["matrices"].as_array().unwrap() {
        let name = format!("{}.weight", matrix["module"].as_str().unwrap());
        let found = diff["tensors"].as_array().unwrap().iter().find(|t| t["name"] == name.as_str()).unwrap();
        let base_norm = matrix["singular_values"].as_array().unwrap().len();
        assert_eq!(base_norm, 4);
        // |W - W'| against the base's norm, which the report divides by.
        let (lost, difference) = (matrix["remaining"].as_f64().unwrap(), matrix["relative"].as_f64().unwrap());
        let energy = matrix["energy"].as_f64().unwrap();
        assert!((lost / difference - (1.0 - energy).sqrt()).abs() < 1e-6, "{name}");
        let norm_of_base: f64 = found["distance"]["norm_of_difference"].as_f64().unwrap() / lost;
        let s: f64 = matrix["singular_values"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap().powi(2)).sum();
        assert!(((difference * norm_of_base).powi(2) * energy / s - 1.0).abs() < 1e-3, "{name}");
    }
}

#[test]
fn ranks_follow_the_energy_and_the_limit_is_said() {
    let dir = tempfile::tempdir().unwrap();
    write_tuned(dir.path(), 3, |name| !name.contains("layers.1.mlp"), false);
    let report = extract(dir.path(), &["--energy", "0.6"]);
    assert_eq!(report["equal"], 3);
    let config = config(dir.path());
    let r = config["r"].as_u64().unwrap();
    for matrix in report["matrices"].as_array().unwrap() {
        assert!(matrix["energy"].as_f64().unwrap() >= 0.6 && matrix["rank"].as_u64().unwrap() <= 3, "{matrix}");
        let own = &config["rank_pattern"][matrix["module"].as_str().unwrap()];
        assert_eq!(own.as_u64().unwrap_or(r), matrix["rank"].as_u64().unwrap());
    }
    assert_eq!(config["rank_pattern"], config["alpha_pattern"]);
    // Only two of three layers' FFNs are changed, so their modules have whole names.
    let targets = config["target_modules"].as_array().unwrap();
    assert!(targets.contains(&"q_proj".into()) && targets.contains(&"model.layers.0.mlp.up_proj".into()), "{config}");
    fs::remove_dir_all(dir.path().join("lora")).unwrap();
    let base = base();
    let output = moerge_ok(
        dir.path(),
        &["extract-lora", "tuned", "--base", &base, "lora", "--energy", "0.99", "--max-rank", "1"],
    );
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(
        printed.contains("18 of 18 matrices keep less than 99.00 %") && printed.contains("--max-rank 2"),
        "{printed}"
    );
    moerge_ok(dir.path(), &["inspect", "lora"]);
}

#[test]
fn what_a_lora_cannot_hold_is_said() {
    let dir = tempfile::tempdir().unwrap();
    write_tuned(dir.path(), 2, |_| true, true);
    let base = base();
    let output = moerge_ok(dir.path(), &["extract-lora", "tuned", "--base", &base, "lora"]);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("that the adapter does not cover: norms (7 tensors, 50.000 % apart)"), "{printed}");
}

#[test]
fn the_adapter_does_not_depend_on_the_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    write_tuned(dir.path(), 5, |_| true, false);
    extract(dir.path(), &["-j", "1", "--dtype", "bfloat16"]);
    let first = contents(&dir.path().join("lora"));
    fs::remove_dir_all(dir.path().join("lora")).unwrap();
    extract(dir.path(), &["-j", "5", "--dtype", "bfloat16"]);
    assert_eq!(first, contents(&dir.path().join("lora")));
    assert_eq!(first.keys().collect::<Vec<_>>(), ["adapter_config.json", "adapter_model.safetensors"]);
}

#[test]
fn what_makes_no_adapter_is_refused_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    write_tuned(dir.path(), 2, |_| true, false);
    let base = base();
    let other = golden("qwen3").display().to_string();
    let moe = golden("mixtral").display().to_string();
    fs::create_dir(dir.path().join("full")).unwrap();
    fs::write(dir.path().join("full/mine.txt"), "").unwrap();
    for (arguments, expected) in [
        (vec![base.as_str(), "--base", &base, "out"], "would change nothing"),
        (vec![&moe, "--base", &moe, "out"], "Mixture of Experts"),
        (vec!["tuned", "--base", &other, "out"], "do not fit each other"),
        (vec!["tuned", "--base", &base, "full"], "exists"),
        (vec!["tuned", "--base", &base, "tuned/lora"], "would be inside one of its source models"),
        (vec!["tuned", "--base", "tuned+lora", "out"], "merge the base's adapter first"),
        (vec!["tuned", "--base", &base, "out", "--memory", "1MiB"], "exceeds the memory budget"),
    ] {
        let output = moerge(dir.path(), &[vec!["extract-lora"], arguments].concat());
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && printed.contains(expected), "{expected}: {printed}");
        assert!(!dir.path().join("out").exists() && !dir.path().join(".out.moerge-build").exists(), "{expected}");
    }
}

/// Writes `tuned` of `golden/extract_lora.py`: every tensor of golden llama mixed with itself, moved down by a row.
fn write_mixed_with_itself(dir: &Path) {
    let to = dir.join("tuned");
    write_changed(&golden("llama"), &to, &BTreeMap::new(), false);
    let tensors = tensors(&golden("llama")).into_iter().map(|(name, (shape, values))| {
        let mut moved = values.clone();
        moved.rotate_right(values.len() / shape[0]);
        let mixed = values.iter().zip(moved).map(|(x, moved)| x * 0.75 + moved * 0.25);
        (name, (Dtype::F32, shape, mixed.flat_map(f32::to_le_bytes).collect()))
    });
    write_tensors(&to.join("model.safetensors"), &tensors.collect());
}

/// Shapes and values of the f32 tensors in a folder.
fn tensors(dir: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let values = |bytes: Vec<u8>| bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let checkpoint = Checkpoint::open(&storage, dir).unwrap();
    checkpoint.tensors().map(|t| (t.name.clone(), (t.shape.clone(), values(t.read().unwrap())))).collect()
}

#[test]
fn rank_8_of_a_full_difference_is_what_torch_and_peft_make_embeddings_and_head_included() {
    let dir = tempfile::tempdir().unwrap();
    write_mixed_with_itself(dir.path());
    let expected: Value = serde_json::from_slice(&fs::read(golden("extract_lora.json")).unwrap()).unwrap();
    let report = extract(dir.path(), &["--rank", "8", "--embeddings"]);
    let matrices = report["matrices"].as_array().unwrap();
    assert_eq!(matrices.len(), expected["matrices"].as_object().unwrap().len());
    for matrix in matrices {
        let module = matrix["module"].as_str().unwrap();
        let wanted = &expected["matrices"][module];
        let close = |a: &Value, b: &Value, what: &str| {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 2e-5 * b.abs(), "{module} {what}: {a}, torch {b}");
        };
        let values = matrix["singular_values"].as_array().unwrap();
        assert_eq!(values.len(), 8, "{module}");
        values.iter().zip(wanted["singular_values"].as_array().unwrap()).for_each(|(a, b)| close(a, b, "value"));
        close(&matrix["energy"], &wanted["energy"], "energy");
    }
    assert_eq!(config(dir.path())["target_modules"].as_array().unwrap().len(), 9);
    // What PEFT makes of the base and its own adapter of the same rank, which is unique but for signs.
    let recipe = format!("merge_method: passthrough\nmodels: [{{model: {}+lora}}]\n", base());
    fs::write(dir.path().join("recipe.yml"), recipe).unwrap();
    moerge_ok(dir.path(), &["merge", "recipe.yml", "out"]);
    let merged = tensors(&dir.path().join("out"));
    assert_eq!(merged.len(), expected["tensors"].as_object().unwrap().len());
    for (name, (_, values)) in &merged {
        let at = |index: usize| f64::from(values[index]);
        let sum = |f: fn(f64) -> f64| values.iter().map(|x| f(f64::from(*x))).sum::<f64>();
        let n = values.len();
        let found = [sum(|x| x), sum(|x| x * x), at(0), at(n / 3), at(n - 1)];
        for (found, wanted) in found.iter().zip(expected["tensors"][name].as_array().unwrap()) {
            let wanted = wanted.as_f64().unwrap();
            let allowed = 2e-6 * (n as f64).sqrt().max(1.0) + 1e-5 * wanted.abs();
            assert!((found - wanted).abs() <= allowed, "{name}: {found}, PEFT {wanted}");
        }
    }
}

#[test]
fn embeddings_are_adapted_on_request_and_tied_ones_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_mixed_with_itself(dir);
    let without = moerge_ok(dir, &["extract-lora", "tuned", "--base", &base(), "plain"]);
    let printed = String::from_utf8_lossy(&without.stderr);
    assert!(printed.contains("embeddings (1 tensor") && printed.contains("--embeddings"), "{printed}");
    // With all ranks the model comes back, embeddings and head included; norms cannot.
    extract(dir, &["--rank", "64", "--embeddings"]);
    let report: Value =
        serde_json::from_slice(&moerge_ok(dir, &["diff", "tuned", &format!("{}+lora", base()), "--json"]).stdout)
            .unwrap();
    for tensor in report["tensors"].as_array().unwrap() {
        let (name, relative) = (tensor["name"].as_str().unwrap(), tensor["distance"]["relative"].as_f64().unwrap());
        assert!(relative < 1e-5 || name.contains("norm"), "{name}: {relative}");
    }
    // An expert with such an adapter is one more user of it.
    let moe = format!(
        "base_model: {0}\ngate_mode: random\nshared_weights: average\nexperts:\n- source_model: {0}+lora\n- source_model: {0}\n",
        base()
    );
    fs::write(dir.join("moe.yml"), moe).unwrap();
    moerge_ok(dir, &["merge", "moe.yml", "moe"]);
    // A head that is the embeddings.
    let tied = golden("llama3_rope").display().to_string();
    write_changed(&golden("llama3_rope"), &dir.join("tied"), &BTreeMap::new(), false);
    let all = tensors(&golden("llama3_rope")).into_iter().map(|(name, (shape, values))| {
        (name, (Dtype::F32, shape, values.iter().rev().flat_map(|x| x.to_le_bytes()).collect()))
    });
    write_tensors(&dir.join("tied/model.safetensors"), &all.collect());
    let output = moerge_ok(dir, &["extract-lora", "tied", "--base", &tied, "of_tied", "--embeddings"]);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("the head is tied to the embeddings"), "{printed}");
}

/// Two models whose decomposition takes a while.
fn write_larger_pair(dir: &Path, hidden: usize) {
    let config = llama(&json!({"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": 3}));
    (1..).zip(["base", "tuned"]).for_each(|(seed, name)| write_model(&dir.join(name), &config, seed));
}

const LARGER: [&str; 7] = ["extract-lora", "tuned", "--base", "base", "--energy", "0.98", "-j1"];

#[test]
fn an_interrupted_run_is_resumed_and_gives_the_same_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_larger_pair(dir, 320);
    let kept = dir.join(".lora.moerge-build/kept");
    let finished = || fs::read_dir(&kept).into_iter().flatten().count();
    let mut child =
        command(dir, &[&LARGER[..], &["lora"]].concat()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while finished() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it was over before it was interrupted");
        sleep(Duration::from_millis(5));
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{printed}");
    assert!(printed.contains("rerun the command to resume") && !dir.join("lora").exists(), "{printed}");
    let time = |name: &str| fs::metadata(kept.join(name)).and_then(|m| m.modified()).unwrap();
    let before = time("matrix-00000.factors");
    let mut child = command(dir, &[&LARGER[..], &["lora"]].concat()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        assert!(
            !kept.exists()
                || fs::metadata(kept.join("matrix-00000.factors")).is_err()
                || time("matrix-00000.factors") == before
        );
        sleep(Duration::from_millis(20));
    }
    assert!(child.wait().unwrap().success());
    moerge_ok(dir, &[&LARGER[..], &["whole"]].concat());
    assert_eq!(contents(&dir.join("lora")), contents(&dir.join("whole")));
}

#[cfg(target_os = "linux")]
#[test]
fn memory_stays_within_what_the_report_says() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_larger_pair(dir, 512);
    for more in [vec!["--rank", "8", "--embeddings"], vec!["--energy", "0.9", "-j4"]] {
        let arguments = [&LARGER[..4], &["lora", "--json"], &more].concat();
        // Not a pipe, which would fill up.
        let printed = fs::File::create(dir.join("printed.jsonl")).unwrap();
        let mut child = command(dir, &arguments).stdout(printed).spawn().unwrap();
        let mut peak = 0;
        while child.try_wait().unwrap().is_none() {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
            peak = peak.max(kib << 10);
            sleep(Duration::from_millis(1));
        }
        assert!(child.wait().unwrap().success());
        let printed = fs::read_to_string(dir.join("printed.jsonl")).unwrap();
        let report: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        let stated = report["memory"].as_u64().unwrap();
        println!("{more:?}: {} MiB, stated {} MiB", peak >> 20, stated >> 20);
        assert!(peak > 0 && peak <= stated, "{more:?}: {} MiB, stated {} MiB", peak >> 20, stated >> 20);
        fs::remove_dir_all(dir.join("lora")).unwrap();
    }
}
