//! Routers fitted to text: the four models of `examples/tiny` become an MoE whose routers know them apart.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
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
    write_recipe(dir, "router_input", "splice_texts: false\n");
    moerge_ok(dir, &["merge", "moe.yml", "means", "--quiet"]);
    write_recipe(dir, "calibrated", "splice_texts: false\n");
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
    let bound = planned["output"]["max_bytes"].as_u64().unwrap();
    assert!((bytes..2 * bytes).contains(&bound), "{bytes} of at most {bound}");
    moerge_ok(dir, &["verify", "fitted"]);

    // The same command again, on however many threads, gives the same.
    let again = crate::common::command(dir, &["merge", "moe.yml", "again", "--quiet", "-j", "3"])
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

/// Spliced sequences teach a router to follow a change of subject: more tokens after one go to their own expert, and
/// documents that change their subject lose less against the right experts.
#[test]
fn routers_follow_a_text_that_changes_its_subject() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let tiny = fs::canonicalize(example("tiny")).unwrap();
    let texts = ["code.txt", "math.txt", "story.txt"];
    for name in texts {
        let text = fs::read_to_string(tiny.join("valid").join(name)).unwrap();
        fs::write(dir.join(name), text.chars().take(2_600).collect::<String>()).unwrap();
    }
    let mut measured = Vec::new();
    for (name, setting) in [("whole", "splice_texts: false\n"), ("spliced", "")] {
        write_recipe(dir, "calibrated", &format!("experts_per_token: 1\n{setting}"));
        let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap().replace("_tokens: 1500", "_tokens: 4000");
        fs::write(dir.join("moe.yml"), recipe).unwrap();
        moerge_ok(dir, &["merge", "moe.yml", name, "--quiet"]);
        let following = report(&dir.join(name)).following;
        assert_eq!(following.after_change.is_empty(), name == "whole", "{following:?}");
        let arguments = ["eval", name, "--mixed", "--mixed-documents", "16", "--segment", "40", "--json", "--text"];
        let scored = moerge_ok(dir, &[&arguments[..], &texts].concat());
        let scored: serde_json::Value = serde_json::from_slice(&scored.stdout).unwrap();
        let mixed = &scored["models"][0]["mixed"];
        let loss =
            mixed["perplexity"]["value"].as_f64().unwrap() / mixed["experts"]["forced"]["value"].as_f64().unwrap();
        let after = mixed["experts"]["following"]["after_change"].as_array().unwrap();
        let right: f64 = after.iter().map(|f| f["accuracy"].as_f64().unwrap() * f["tokens"].as_f64().unwrap()).sum();
        let tokens: f64 = after.iter().map(|f| f["tokens"].as_f64().unwrap()).sum();
        println!("{name}: {loss:.3} of the right experts' perplexity, own expert first for {:.3}", right / tokens);
        measured.push((loss, right / tokens));
    }
    let [whole, spliced] = measured[..] else { panic!() };
    assert!(spliced.0 - 1.0 < 0.8 * (whole.0 - 1.0) && spliced.1 > whole.1, "{whole:?} {spliced:?}");

    // `route` says the same of its own.
    let routed = moerge_ok(dir, &[&["route", "spliced", "--tokens", "600", "--json", "--text"], &texts[..]].concat());
    let routed: serde_json::Value = serde_json::from_slice(&routed.stdout).unwrap();
    let first = &routed["following"]["after_change"][0];
    assert!(first["from"] == 0 && first["accuracy"].as_f64().unwrap() > 0.3, "{first}");
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

/// A recipe over code and math of `examples/tiny` whose texts are `texts`, and what they are tried on: the beginning of
/// each one's own held-out text, one window long, which it also writes to `code.txt` and `math.txt`.
fn write_tried(dir: &Path, texts: [&str; 2], more: &str) {
    let tiny = fs::canonicalize(example("tiny")).unwrap();
    let mut recipe = format!(
        "base_model: {}/base\ngate_mode: calibrated\ncalibration_tokens: 600\nsplice_texts: false\nexperts_per_token: 1\n{more}experts:\n",
        tiny.display()
    );
    for (name, text) in ["code", "math"].into_iter().zip(texts) {
        let held_out: String = fs::read_to_string(tiny.join(format!("valid/{name}.txt"))).unwrap();
        fs::write(dir.join(format!("{name}.txt")), held_out.chars().take(700).collect::<String>()).unwrap();
        let tiny = tiny.display();
        recipe += &format!(
            "- source_model: {tiny}/{name}\n  positive_prompts_file: {tiny}/calibration/{text}.txt\n  validation: {name}.txt\n"
        );
    }
    fs::write(dir.join("moe.yml"), recipe).unwrap();
}

#[test]
fn validation_gives_the_perplexities_that_eval_gives() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_tried(dir, ["code", "math"], "");
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);
    let table = report(&dir.join("out")).validation.unwrap();
    assert_eq!(table.texts_of, [0, 1]);
    let rows: Vec<&str> = table.models.iter().map(|row| row.model.as_str()).collect();
    assert_eq!(rows, ["base", "expert 0", "expert 1", "best expert", "moe"]);

    let tiny = fs::canonicalize(example("tiny")).unwrap();
    let [base, code, math] = ["base", "code", "math"].map(|name| tiny.join(name).display().to_string());
    let models = [base.as_str(), &code, &math, "out"];
    let window = ["--context", "512", "--stride", "512", "--text", "code.txt", "math.txt", "--json", "--quiet"];
    let measured = moerge_ok(dir, &[&["eval"], &models[..], &window].concat());
    let measured: serde_json::Value = serde_json::from_slice(&measured.stdout).unwrap();
    for (index, row) in [0, 1, 2, 4].into_iter().enumerate() {
        for text in 0..2 {
            let scored = &measured["models"][index]["texts"][text];
            assert!(scored["tokens"].as_u64().unwrap() <= 512, "one window");
            let (expected, found) =
                (scored["perplexity"]["value"].as_f64().unwrap(), table.models[row].perplexity[text]);
            assert!((found / expected - 1.0).abs() < 1e-3, "{} on text {text}: {found}, {expected}", rows[row]);
        }
    }
    for text in 0..2 {
        let alone = [1, 2].map(|row| table.models[row].perplexity[text]);
        assert_eq!(table.models[3].perplexity[text], alone[0].min(alone[1]));
    }
    for row in &table.models {
        let mean = (row.perplexity[0] * row.perplexity[1]).sqrt();
        assert!((row.geometric_mean / mean - 1.0).abs() < 1e-3, "{row:?}");
    }
}

#[test]
fn with_labels_by_loss_text_in_the_wrong_place_still_goes_to_the_expert_that_says_it_best() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let moe_and_best = |label: &str| {
        write_tried(dir, ["math", "code"], label);
        moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet", "--force"]);
        let table = report(&dir.join("out")).validation.unwrap();
        (table.models[4].geometric_mean, table.models[3].geometric_mean)
    };
    let (by_prompt, best) = moe_and_best("");
    assert!(by_prompt > 3.0 * best, "the texts are exchanged, so this must fail: {by_prompt}, {best}");
    let (by_loss, best) = moe_and_best("label: loss\n");
    assert!(by_loss < 1.4 * best, "{by_loss}, {best}");
}

/// Stops in the validation, and writes down what happens.
struct Watched {
    stop_in_validation: bool,
    passes: AtomicUsize,
    notes: Mutex<Vec<String>>,
}

impl Progress for Watched {
    fn start(&self, stage: Stage, _: u64, _: u64) {
        self.passes.fetch_add(usize::from(stage == Stage::Prompts), Ordering::Relaxed);
    }
    fn advance(&self, _: Stage, _: u64) {}
    fn finish(&self, _: Stage, _: &str) {}
    fn note(&self, message: &str) {
        self.notes.lock().unwrap().push(message.to_owned());
    }
    fn stop_requested(&self) -> bool {
        // The first pass fits, the second validates.
        self.stop_in_validation && self.passes.load(Ordering::Relaxed) == 2
    }
}

#[test]
fn a_run_that_was_stopped_while_validating_does_not_fit_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_tried(dir, ["code", "math"], "");
    moerge_ok(dir, &["merge", "moe.yml", "unbroken/out", "--quiet"]);

    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let merge = |stop_in_validation| {
        let watched = Watched { stop_in_validation, passes: AtomicUsize::new(0), notes: Mutex::default() };
        let options = MergeOptions::default();
        let prepared = prepare(&storage, Recipe::load(&dir.join("moe.yml")).unwrap(), dir, &options).unwrap();
        (
            prepared.build(storage.as_ref(), &LocalStorage::shared(), &dir.join("out"), &options, &watched).map(|_| ()),
            watched,
        )
    };
    let (stopped, _) = merge(true);
    assert!(stopped.is_err() && !dir.join("out").exists());
    let (finished, watched) = merge(false);
    finished.unwrap();
    assert_eq!(watched.passes.into_inner(), 1, "the validation alone");
    assert_eq!(watched.notes.into_inner().unwrap(), ["the routers are there from the run before"]);
    let [unbroken, resumed] = ["unbroken/out", "out"].map(|name| contents(&dir.join(name)));
    assert_eq!(resumed, unbroken);
}
