//! `moerge merge --balance`.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::common::{contents, example, moerge, moerge_ok};
use moerge_checkpoint::{LocalStorage, ReadStorage};
use moerge_core::{
    progress::{Progress, Stage},
    recipe::Recipe,
};
use moerge_lib::{
    merge::{MergeOptions, prepare},
    routers::RoutingReport,
};
use serde_json::Value;

/// Code and math with much text, and the base with little, which would be starved.
fn write_recipe(dir: &Path, base_prompts: &str) {
    let tiny = fs::canonicalize(example("tiny")).unwrap();
    let tiny = tiny.display();
    let mut recipe = format!(
        "base_model: {tiny}/base\ngate_mode: calibrated\ncalibration_tokens: 900\nsplice_texts: false\nexperts_per_token: 1\nexperts:\n"
    );
    for name in ["code", "math"] {
        recipe += &format!("- source_model: {tiny}/{name}\n  positive_prompts_file: {tiny}/calibration/{name}.txt\n");
    }
    recipe += &format!("- source_model: {tiny}/base\n  {base_prompts}\n");
    fs::write(dir.join("moe.yml"), recipe).unwrap();
}

const LITTLE: &str = "positive_prompts: [\"And it came to pass in those days\"]";

fn report(dir: &Path) -> RoutingReport {
    RoutingReport::parse(&fs::read_to_string(dir.join("routing_report.json")).unwrap()).unwrap()
}

#[test]
fn the_report_says_what_was_shifted_and_what_it_cost() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_recipe(dir, LITTLE);
    // With the same weights in all experts it costs nothing to send tokens elsewhere.
    let tiny = fs::canonicalize(example("tiny")).unwrap();
    let model = |name: &str| format!("source_model: {}/{name}\n", tiny.display());
    let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap();
    let recipe = recipe.replace(&model("math"), &model("code")).replace(&model("base"), &model("code"));
    fs::write(dir.join("moe.yml"), recipe).unwrap();
    let same = "--i-understand-this-is-not-useful-without-training";
    let planned = moerge_ok(dir, &["plan", "moe.yml", "out", "--balance", "--json", same]);
    let planned: Value = serde_json::from_slice(&planned.stdout).unwrap();
    let output = moerge_ok(dir, &["merge", "moe.yml", "out", "--balance", same]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("balanced: the least loaded expert of a layer has 50 % of an even share"), "{told}");
    moerge_ok(dir, &["verify", "out"]);
    let bytes: u64 = fs::read_dir(dir.join("out")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    let bound = planned["output"]["max_bytes"].as_u64().unwrap();
    assert!((bytes..2 * bytes).contains(&bound), "{bytes} of at most {bound}");

    moerge_ok(dir, &["merge", "moe.yml", "plain", "--quiet", same]);
    let (plain, report) = (report(&dir.join("plain")), report(&dir.join("out")));
    let balance = report.balance.as_ref().unwrap();
    assert!(plain.balance.is_none());
    assert!(balance.share > 0.0 && balance.cost() <= 0.0051, "{balance:?}");
    assert!(balance.least_after >= balance.share - 1e-4, "{balance:?}");
    let mean = |load: &[f64]| load.iter().sum::<f64>() / load.len() as f64;
    let base = |loads: Vec<f64>| mean(&loads);
    let before = base(balance.load_before.iter().map(|load| load[2]).collect());
    let after = base(report.layers.iter().map(|layer| layer.load[2]).collect());
    assert!(before < 0.05 && after > 1.5 * before, "{before} {after}");
    for (plain, before) in plain.layers.iter().zip(&balance.load_before) {
        assert!(plain.load.iter().zip(before).all(|(a, b)| (a - b).abs() < 0.01), "{plain:?} {before:?}");
    }

    // The picture has it, too.
    let text = example("tiny/valid/code.txt").canonicalize().unwrap().display().to_string();
    let route = ["route", "out", "--text", &text, "--tokens", "300"];
    let told = moerge_ok(dir, &[&route[..], &["--html", "page.html"]].concat());
    assert!(String::from_utf8_lossy(&told.stdout).contains("balanced: "));
    let page = fs::read_to_string(dir.join("page.html")).unwrap();
    assert!(page.contains("Balanced") && page.matches("class=\"load\"").count() == 2);
    let json = moerge_ok(dir, &[&route[..], &["--json", "--quiet"]].concat());
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["balance"]["share"].as_f64().unwrap(), balance.share);
}

#[test]
fn without_starved_experts_the_same_model_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let tiny = fs::canonicalize(example("tiny")).unwrap();
    write_recipe(dir, &format!("positive_prompts_file: {}/calibration/story.txt", tiny.display()));
    moerge_ok(dir, &["merge", "moe.yml", "out", "--balance", "--quiet"]);
    moerge_ok(dir, &["merge", "moe.yml", "plain", "--quiet"]);
    let model = |name: &str| contents(&dir.join(name))["model.safetensors"];
    assert_eq!(model("out"), model("plain"));
    // But it is another build: the one is not taken for the other.
    let again = moerge(dir, &["merge", "moe.yml", "plain", "--balance"]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("--force"));
}

#[test]
fn routers_that_are_not_fitted_cannot_be_balanced() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    crate::common::write_family(dir, "hidden");
    for command in [&["merge", "moe.yml", "out", "--balance"][..], &["plan", "moe.yml", "--balance"]] {
        let output = moerge(dir, command);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !dir.join("out").exists());
        assert!(told.contains("`gate_mode: hidden` fits no routers that could be balanced"), "{told}");
        assert!(told.contains("hint: `gate_mode: self_calibrated` does"), "{told}");
    }
}

/// Stops after the first pass of the balancing where it shall, and writes down what happens.
#[derive(Default)]
struct Watched {
    stop_in_balance: bool,
    stopped: AtomicBool,
    finished: Mutex<Vec<String>>,
}

impl Progress for Watched {
    fn start(&self, _: Stage, _: u64, _: u64) {}
    fn advance(&self, _: Stage, _: u64) {}
    fn finish(&self, _: Stage, summary: &str) {
        self.stopped.fetch_or(self.stop_in_balance && summary.starts_with("balance"), Ordering::Relaxed);
        self.finished.lock().unwrap().push(summary.to_owned());
    }
    fn stop_requested(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

#[test]
fn a_run_that_was_stopped_while_balancing_does_not_fit_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_recipe(dir, LITTLE);
    moerge_ok(dir, &["merge", "moe.yml", "unbroken/out", "--balance", "--quiet"]);
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let merge = |stop_in_balance| {
        let watched = Watched { stop_in_balance, ..Watched::default() };
        let options = MergeOptions { balance: true, ..MergeOptions::default() };
        let prepared = prepare(&storage, Recipe::load(&dir.join("moe.yml")).unwrap(), dir, &options).unwrap();
        (
            prepared.build(storage.as_ref(), &LocalStorage::shared(), &dir.join("out"), &options, &watched).map(|_| ()),
            watched.finished,
        )
    };
    let (stopped, finished) = merge(true);
    assert!(stopped.is_err() && !dir.join("out").exists());
    assert!(!finished.into_inner().unwrap()[0].starts_with("balance"), "the fit comes first");
    let (whole, finished) = merge(false);
    whole.unwrap();
    assert!(finished.into_inner().unwrap()[0].starts_with("balance"), "and not again");
    assert_eq!(contents(&dir.join("out")), contents(&dir.join("unbroken/out")));
}
