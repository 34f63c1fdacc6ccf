//! Routers fitted to text: the four models of `examples/tiny` become an MoE whose routers know them apart.

mod common;

use std::{fs, path::Path};

use common::{contents, example, moerge, moerge_ok};
use moerge::router::RoutingReport;

/// A recipe over the three specialists of `examples/tiny` and their calibration texts.
fn write_recipe(dir: &Path, gate_mode: &str, more: &str) {
    let tiny = fs::canonicalize(example("tiny")).unwrap();
    let tiny = tiny.display();
    let expert = |name: &str| {
        format!("  - source_model: {tiny}/{name}\n    positive_prompts_file: {tiny}/calibration/{name}.txt\n")
    };
    let experts: String = ["code", "math", "story"].map(expert).concat();
    let text =
        format!("base_model: {tiny}/base\ngate_mode: {gate_mode}\ncalibration_tokens: 1500\n{more}experts:\n{experts}");
    fs::write(dir.join("moe.yml"), text).unwrap();
}

fn report(dir: &Path) -> RoutingReport {
    RoutingReport::parse(&fs::read_to_string(dir.join("routing_report.json")).unwrap()).unwrap()
}

#[test]
fn discriminants_put_the_own_expert_first() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_recipe(dir, "router_input", "");
    moerge_ok(dir, &["merge", "moe.yml", "means", "--quiet"]);
    write_recipe(dir, "calibrated", "");
    let planned = moerge_ok(dir, &["plan", "moe.yml", "fitted", "--json"]);
    let planned: serde_json::Value = serde_json::from_slice(&planned.stdout).unwrap();
    moerge_ok(dir, &["merge", "moe.yml", "fitted", "--quiet"]);

    let (means, fitted) = (report(&dir.join("means")), report(&dir.join("fitted")));
    assert!(fitted.median_accuracy > 0.93, "{}", fitted.median_accuracy);
    assert!(fitted.median_accuracy > means.median_accuracy, "{} {}", fitted.median_accuracy, means.median_accuracy);
    for layer in &fitted.layers {
        assert!(!layer.degenerate && layer.load.iter().all(|l| *l > 0.15), "{layer:?}");
        assert!((layer.load.iter().sum::<f64>() - 1.0).abs() < 1e-3);
    }
    assert!(fitted.experts.iter().all(|e| e.tokens > 1000 && e.held_out > 100));

    // The plan knew the size of all files, the report's included.
    let bytes: u64 = fs::read_dir(dir.join("fitted")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(planned["output"]["bytes"].as_u64().unwrap(), bytes);
    moerge_ok(dir, &["verify", "fitted"]);

    // The same command again, on however many threads, gives the same.
    let again = common::command(dir, &["merge", "moe.yml", "again", "--quiet", "-j", "3"])
        .env("RAYON_NUM_THREADS", "3")
        .output()
        .unwrap();
    assert!(again.status.success());
    let files = |name: &str| {
        let mut files = contents(&dir.join(name));
        files.remove("README.md");
        files.remove("moerge.json");
        files
    };
    assert_eq!(files("fitted"), files("again"));
}

#[test]
fn experts_that_are_the_same_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_recipe(dir, "calibrated", "");
    let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap().replace("/math\n", "/code\n");
    fs::write(dir.join("moe.yml"), recipe).unwrap();
    let output = moerge_ok(dir, &["merge", "moe.yml", "out"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("expert 0 (code) and expert 1 (code) have the same feed-forward network in 5 of 5 layers (0-4)"),
        "{told}"
    );
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let refused = || {
        let output = moerge(dir, &["merge", "moe.yml", "out"]);
        assert!(!output.status.success() && !dir.join("out").exists());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    write_recipe(dir, "calibrated", "self_text: {samples: 0}\n");
    let told = refused();
    assert!(told.contains("`samples` is \"0\", expected 1 or more") && told.contains("moe.yml:4:"), "{told}");
}
