//! `moerge extract-lora`: an adapter from the difference of two models, by the eyes of `moerge merge`, `moerge diff` and
//! PEFT (`golden/extract_lora.py`).

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ReadStorage};
use serde_json::{Value, json};

use crate::common::{contents, golden, moerge, moerge_ok, write_changed, write_tensors};

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
    assert!(printed.contains("a LoRA cannot hold: norms (7 tensors, 50.000 % apart)"), "{printed}");
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
        (vec!["tuned", "--base", &base, "tuned/lora"], "would lie in a model"),
        (vec!["tuned", "--base", "tuned+lora", "out"], "merge the base's adapter first"),
        (vec!["tuned", "--base", &base, "out", "--memory", "1MiB"], "needs more memory"),
    ] {
        let output = moerge(dir.path(), &[vec!["extract-lora"], arguments].concat());
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && printed.contains(expected), "{expected}: {printed}");
        assert!(!dir.path().join("out").exists() && !dir.path().join(".out.moerge-build").exists(), "{expected}");
    }
}
