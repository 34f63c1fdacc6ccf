//! `gate_mode: phatgoose` on the trained models of `examples/tiny`: a few steps, on few words.

use std::{fs, path::Path, thread::sleep, time::Duration};

use crate::common::{command, contents, example, moerge, moerge_ok};
use moerge_checkpoint::{Checkpoint, LocalStorage, ReadStorage};
use moerge_lib::routers::RoutingReport;
use serde_json::Value;

const SETTINGS: &str = "phatgoose: {steps: 2, batch_tokens: 250}\nself_text: {samples: 5, tokens: 32}\n";

/// The base, an expert that has text, and one that has none.
fn write_recipe(dir: &Path, more: &str) {
    let tiny = fs::canonicalize(example("tiny")).unwrap();
    let tiny = tiny.display();
    let text = format!(
        "base_model: {tiny}/base\ngate_mode: phatgoose\ncalibration_tokens: 500\n{more}experts:\n\
         - source_model: {tiny}/base\n\
         - source_model: {tiny}/math\n  positive_prompts_file: {tiny}/calibration/math.txt\n\
         - source_model: {tiny}/story\n"
    );
    fs::write(dir.join("moe.yml"), text).unwrap();
}

/// The files of a folder, but for those that name it.
fn files(dir: &Path) -> std::collections::BTreeMap<String, moerge_checkpoint::Fingerprint> {
    let mut files = contents(dir);
    files.remove("README.md");
    files.remove("moerge.json");
    files
}

/// `[experts][hidden]` of each layer's router.
fn gates(dir: &Path) -> Vec<Vec<Vec<f32>>> {
    let storage: std::sync::Arc<dyn ReadStorage> = std::sync::Arc::new(LocalStorage);
    let written = Checkpoint::open(&storage, dir).unwrap();
    let gate = |layer: usize| {
        let view = written.get(&format!("model.layers.{layer}.block_sparse_moe.gate.weight")).unwrap().clone();
        let bytes = view.read().unwrap();
        let values = bytes.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32());
        values.collect::<Vec<_>>().chunks(view.shape[1]).map(<[f32]>::to_vec).collect()
    };
    (0..5).map(gate).collect()
}

#[test]
fn gates_are_trained_on_text_and_on_what_experts_write() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_recipe(dir, SETTINGS);
    let planned = moerge_ok(dir, &["plan", "moe.yml", "--json"]);
    let planned: Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert!(planned["memory"]["training"].as_u64().unwrap() > 0, "{planned:#}");
    for threads in ["1", "3"] {
        let run = command(dir, &["merge", "moe.yml", threads, "--quiet"]).env("RAYON_NUM_THREADS", threads).output();
        assert!(run.unwrap().status.success());
    }
    // Where only a layer has room, it is read again in every step, and the result is the same.
    moerge_ok(dir, &["merge", "moe.yml", "streamed", "--quiet", "--memory", "80MiB"]);
    assert_eq!(files(&dir.join("1")), files(&dir.join("3")));
    assert_eq!(files(&dir.join("1")), files(&dir.join("streamed")));

    for layer in gates(&dir.join("1")) {
        assert!(layer[0].iter().all(|w| *w == 0.0), "the base has nothing to learn");
        for row in &layer[1..] {
            let mean = row.iter().sum::<f32>() / row.len() as f32;
            let size = row.iter().map(|w| w.abs()).sum::<f32>() / row.len() as f32;
            assert!(size > 0.01 && mean.abs() < 0.01 * size, "LN leaves no mean: {mean} of {size}");
        }
        assert_ne!(layer[1], layer[2]);
    }
    let written: Value = serde_json::from_slice(&fs::read(dir.join("1/self_text.json")).unwrap()).unwrap();
    let who: Vec<u64> = written.as_array().unwrap().iter().map(|e| e["expert"].as_u64().unwrap()).collect();
    assert_eq!(who, [0, 2], "expert 1 has text");
    let report = RoutingReport::parse(&fs::read_to_string(dir.join("1/routing_report.json")).unwrap()).unwrap();
    assert_eq!(report.gate_mode, "phatgoose");
    assert!(report.experts.iter().all(|e| e.held_out > 0) && report.layers.len() == 5);
}

/// Killed after the first expert's gates are there: they are not trained again, and the result is the same.
#[test]
fn a_killed_run_keeps_the_gates_that_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_recipe(dir, SETTINGS);
    moerge_ok(dir, &["merge", "moe.yml", "whole", "--quiet"]);
    // Gates lie in the work folder, under a name of their own; which folder of it is not this test's business.
    fn find(dir: &Path) -> Option<std::path::PathBuf> {
        let entries: Vec<_> = fs::read_dir(dir).ok()?.flatten().map(|e| e.path()).collect();
        let own = entries.iter().find(|p| p.file_name().is_some_and(|n| n == "gates_1.safetensors")).cloned();
        own.or_else(|| entries.iter().filter(|p| p.is_dir()).find_map(|p| find(p)))
    }
    let work = dir.join(".out.moerge-build");
    let mut child = command(dir, &["merge", "moe.yml", "out", "--quiet"]).spawn().unwrap();
    while find(&work).is_none() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = find(&work).unwrap();
    let time = fs::metadata(&kept).unwrap().modified().unwrap();
    let again = moerge_ok(dir, &["merge", "moe.yml", "out", "--json"]);
    assert_eq!(files(&dir.join("whole")), files(&dir.join("out")));
    assert!(time.elapsed().is_ok() && !work.exists(), "{}", String::from_utf8_lossy(&again.stderr));
}

/// In layers that an expert is not in, the others are there as ever, and the base is twice.
#[test]
fn an_expert_of_some_layers_has_gates_in_them_only() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_recipe(dir, SETTINGS);
    let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap();
    fs::write(dir.join("moe.yml"), recipe + "  layers: [0-2]\n").unwrap();
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);
    for (layer, rows) in gates(&dir.join("out")).iter().enumerate() {
        let silent = rows.iter().filter(|row| row.iter().all(|w| *w == 0.0)).count();
        assert_eq!(silent, if layer < 3 { 1 } else { 2 }, "layer {layer}");
    }
}

#[test]
fn what_cannot_be_trained_is_refused_and_what_is_not_used_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let told = |arguments: &[&str]| String::from_utf8_lossy(&moerge(dir, arguments).stderr).into_owned();
    for (settings, message) in [
        ("phatgoose: {steps: 0}\n", "`steps` is \"0\", expected 1 or more"),
        ("phatgoose: {learning_rate: 0}\n", "`learning_rate` is \"0\", expected a learning rate above 0"),
        ("phatgoose: {batch: 3}\n", "unknown key `batch`"),
    ] {
        write_recipe(dir, settings);
        let told = told(&["merge", "moe.yml", "out"]);
        assert!(told.contains(message) && told.contains("moe.yml:4:"), "{told}");
    }
    write_recipe(dir, "label: loss\n");
    let warned = told(&["plan", "moe.yml"]);
    assert!(warned.contains("`label: loss` changes the report of `gate_mode: phatgoose` only"), "{warned}");
    write_recipe(dir, "");
    let told = told(&["merge", "moe.yml", "out", "--memory", "8MiB"]);
    assert!(told.contains("exceeds the memory budget") && told.contains("hint: --memory"), "{told}");
    assert!(!dir.join("out").exists());
}
