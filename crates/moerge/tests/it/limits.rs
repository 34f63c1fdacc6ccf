//! The real process within limits: memory whatever the model's size, and a file size limit in the middle of a shard.
#![cfg(target_os = "linux")]

use std::{fs, path::Path, process::Command, thread::sleep, time::Duration};

use crate::common::{command, contents, llama, moerge_ok, write_family};
use moerge_checkpoint::{Dtype, LocalStorage, OutputStorage, ShardLayout, TensorSpec};
use moerge_core::model::{config::ModelConfig, families::describe};
use serde_json::json;

/// A model of `layers` layers of the 70B shape whose weights are one hole: no disk is used.
fn write_sparse_model(dir: &Path, layers: usize) -> u64 {
    fs::create_dir_all(dir).unwrap();
    let config = llama(&json!({
        "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_key_value_heads": 8,
        "num_hidden_layers": layers, "vocab_size": 32000,
    }));
    let text = config.to_string();
    fs::write(dir.join("config.json"), &text).unwrap();
    let config = ModelConfig::parse(&text, dir).unwrap();
    let tensors = describe(&config).unwrap().tensors.into_iter();
    let specs = tensors.map(|t| TensorSpec { name: t.name, encoding: Dtype::BF16.into(), shape: t.shape }).collect();
    let layout = ShardLayout::new(specs, u64::MAX).unwrap();
    let shard = &layout.shards[0];
    let path = dir.join("model.safetensors");
    fs::write(&path, &shard.header).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(shard.file_len).unwrap();
    shard.file_len
}

/// Largest resident set of the process so far, in MiB.
fn peak_mib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// Largest resident set of `moerge merge moe.yml out` in `dir`, in MiB.
fn peak_of_merge(dir: &Path) -> u64 {
    let mut child = command(dir, &["merge", "moe.yml", "out", "--quiet"]).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak_mib(child.id()).unwrap_or(peak).max(peak);
        sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success());
    peak
}

/// What `moerge plan` says that this takes, in MiB.
fn planned_mib(dir: &Path) -> u64 {
    let output = command(dir, &["plan", "moe.yml", "--json"]).output().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    plan["memory"]["needed"].as_u64().unwrap() >> 20
}

#[test]
fn random_gates_need_128_mib_whatever_the_size_of_the_models() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // Each layer is 1.56 GB in each of the two sources: 5.5 GB, or 50 GB with MOERGE_SPARSE_LAYERS=16, fewer where
    // the disk is said to be too small for the output.
    let wanted = std::env::var("MOERGE_SPARSE_LAYERS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let free = LocalStorage.free_space(dir).unwrap();
    let layers = (free / 3_200_000_000).saturating_sub(1).clamp(1, wanted) as usize;
    let bytes: u64 = ["base", "a"].iter().map(|name| write_sparse_model(&dir.join(name), layers)).sum();
    fs::write(
        dir.join("moe.yml"),
        "base_model: base\ngate_mode: random\nexperts:\n- source_model: base\n- source_model: a\n",
    )
    .unwrap();
    let peak = peak_of_merge(dir);
    let written: u64 = fs::read_dir(dir.join("out")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    println!("sources {:.1} GB, output {:.1} GB, peak {peak} MiB", bytes as f64 / 1e9, written as f64 / 1e9);
    assert!(peak > 0 && peak <= 128, "{peak} MiB");
    let needed = planned_mib(dir);
    assert!(peak <= needed && needed <= 128, "{peak} MiB, planned {needed} MiB");
}

#[test]
fn attack_15_making_routers_keeps_within_what_plan_says() {
    for mode in ["hidden", "calibrated", "self_calibrated"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write_family(dir, mode);
        let (peak, needed) = (peak_of_merge(dir), planned_mib(dir));
        println!("{mode}: {peak} MiB, planned {needed} MiB");
        assert!(peak > 0 && peak <= needed, "{mode}: {peak} MiB, planned {needed} MiB");
    }
}

#[test]
fn a_dense_merge_stays_within_the_planned_memory() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "random");
    let recipe = "merge_method: ties\nbase_model: base\ndtype: bfloat16\nparameters: {weight: 0.5, density: 0.5}\n\
                  models:\n- model: a\n- model: b\n- model: c\n";
    fs::write(dir.join("moe.yml"), recipe).unwrap();
    let needed = planned_mib(dir);
    let peak = peak_of_merge(dir);
    assert!(peak > 0 && peak <= needed, "{peak} MiB, planned {needed} MiB");
    let exact = format!("{}MiB", needed + 1);
    moerge_ok(dir, &["merge", "moe.yml", "again", "--quiet", "--memory", &exact]);
}

#[test]
fn a_budget_that_is_too_small_is_said_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "hidden");
    let output = command(dir, &["merge", "moe.yml", "out", "--memory", "1MiB"]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("the pass over the prompts exceeds the memory budget"), "{message}");
    assert!(message.contains("hint: --memory"), "{message}");
    let names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|n| !n.to_string_lossy().contains("out")), "{names:?}");
}

/// The suggestion was what the first phase needs, so the next run was refused for the second.
#[test]
fn attack_15_the_suggested_memory_is_enough_for_the_whole_run() {
    for mode in ["hidden", "calibrated", "self_calibrated"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write_family(dir, mode);
        let output = command(dir, &["merge", "moe.yml", "out", "--memory", "1MiB"]).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        let suggested = message.split("--memory ").nth(1).and_then(|rest| rest.split(' ').next());
        let suggested = suggested.unwrap_or_else(|| panic!("no suggestion: {message}"));
        moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet", "--memory", suggested]);
    }
}

#[test]
fn a_file_size_limit_is_said_with_file_and_operation_and_the_run_goes_on_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "hidden");
    let arguments = ["merge", "moe.yml", "out", "--quiet"];
    let output = Command::new("prlimit")
        .arg("--fsize=100000")
        .arg(env!("CARGO_BIN_EXE_moerge"))
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("prlimit is part of util-linux");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("model.safetensors") && message.contains("cannot"), "{message}");
    assert!(!dir.join("out").exists());
    moerge_ok(dir, &arguments);
    moerge_ok(dir, &["merge", "moe.yml", "again/out", "--quiet"]);
    assert_eq!(contents(&dir.join("out")), contents(&dir.join("again/out")));
}
