//! Experts that are limited to some layers.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::common::{example, llama, moerge, moerge_ok, write_mixed, write_model};
use moerge_checkpoint::{Checkpoint, LocalStorage, ReadStorage};
use moerge_core::{
    model::{config::ModelConfig, families::describe, source::Source},
    progress::Silent,
    recipe::Recipe,
};
use moerge_infer::{
    PartialExpert,
    decoder::{CheckpointWeights, Pass, Weights, forward, logits},
};
use moerge_lib::{
    merge::{MergeOptions, Prepared, prepare},
    routers::{Merged, RoutingReport},
};
use serde_json::{Value, json};

const IDS: [u32; 12] = [1, 17, 42, 99, 3, 58, 120, 7, 64, 5, 31, 88];

fn storage() -> Arc<dyn ReadStorage> {
    Arc::new(LocalStorage)
}

fn scores(weights: &dyn Weights) -> Vec<f32> {
    let stream = forward(weights, &[IDS.to_vec()], Pass::default(), &mut (), &Silent).unwrap();
    let scores = logits(weights, &stream, &Silent).unwrap();
    (0..IDS.len()).flat_map(|token| scores.token(token)).collect()
}

fn scores_of(dir: &Path) -> Vec<f32> {
    let config = ModelConfig::parse(&fs::read_to_string(dir.join("config.json")).unwrap(), dir).unwrap();
    let checkpoint = Checkpoint::open(&storage(), dir).unwrap();
    let description = describe(&config).unwrap();
    scores(&CheckpointWeights::new(&checkpoint, &description).unwrap())
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Models `base`, `a`, `b` of three layers in `dir`, and the recipe of these lines over them.
fn write(dir: &Path, recipe: &str) -> Prepared {
    for (seed, name) in (1..).zip(["base", "a", "b"]) {
        write_model(&dir.join(name), &llama(&json!({})), seed);
    }
    fs::write(dir.join("moe.yml"), format!("base_model: base\n{recipe}")).unwrap();
    let recipe = Recipe::load(&dir.join("moe.yml")).unwrap();
    prepare(&storage(), recipe, dir, &MergeOptions::default()).unwrap()
}

/// The dense model that is the base with the FFN of `of[layer]`.
fn write_with_ffns(dir: &Path, name: &str, of: [&str; 3]) -> PathBuf {
    let to = dir.join(name);
    write_mixed(&dir.join("base"), &to, |tensor| {
        let layer = tensor.strip_prefix("model.layers.")?.split_once(".mlp.")?.0;
        Some(dir.join(of[layer.parse::<usize>().ok()?]))
    });
    to
}

/// Two copies of `a` in layer 0, and `b` alone in both slots of the others: whatever the routers say, each layer's FFN
/// is known.
#[test]
fn a_layer_of_one_expert_is_exactly_that_expert() {
    let experts = "experts:\n- {source_model: a, layers: [0], positive_prompts: [one]}\n\
        - {source_model: a, layers: 0, positive_prompts: [two]}\n\
        - {source_model: b, layers: 1-2, positive_prompts: [three]}\n";
    for mode in ["hidden", "random", "calibrated"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, &format!("gate_mode: {mode}\n{experts}"));
        moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);
        moerge_ok(dir, &["verify", "out"]);
        let dense = scores_of(&write_with_ffns(dir, "dense", ["a", "b", "b"]));
        let moe = scores_of(&dir.join("out"));
        assert!(difference(&moe, &dense) < 1e-4, "{mode}: {}", difference(&moe, &dense));
        assert!(difference(&moe, &scores_of(&dir.join("base"))) > 1e-2, "the test could not fail");
    }
}

#[test]
fn an_expert_by_itself_has_the_bases_ffn_in_the_other_layers() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let prepared = write(
        dir,
        "gate_mode: random\nexperts:\n- {source_model: a, layers: [0, 2]}\n- {source_model: b, layers: 0-1}\n\
         - source_model: b\n",
    );
    // Behind the base's attention, as labels and validation have it.
    for (expert, ffns) in [["a", "base", "a"], ["b", "b", "base"], ["b", "b", "b"]].into_iter().enumerate() {
        let alone = Merged::only(&prepared.plan, expert).unwrap();
        let dense = scores_of(&write_with_ffns(dir, &format!("dense{expert}"), ffns));
        assert!(difference(&scores(&alone), &dense) < 1e-4, "expert {expert}");
    }
    // With its own attention, as it writes.
    let open = |name: &str| Source::open(&storage(), name, &dir.join(name), None).unwrap();
    let (base, a) = (open("base"), open("a"));
    let writer = PartialExpert::new(&a, &base, vec![1]).unwrap();
    write_mixed(&dir.join("a"), &dir.join("written"), |tensor| {
        tensor.starts_with("model.layers.1.mlp.").then(|| dir.join("base"))
    });
    assert!(difference(&scores(&writer), &scores_of(&dir.join("written"))) < 1e-4);
}

#[test]
fn an_expert_that_is_there_twice_is_the_same_twice() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(
        dir,
        "gate_mode: random\nexperts:\n- {source_model: a, layers: 0-1, noise_scale: 0.1, residual_scale: 0.5}\n\
         - {source_model: b, layers: 1-2, noise_scale: 0.1}\n",
    );
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);
    let out = Checkpoint::open(&storage(), &dir.join("out")).unwrap();
    let bytes = |layer: usize, rest: &str| {
        let name = format!("model.layers.{layer}.block_sparse_moe.{rest}.weight");
        out.get(&name).unwrap().read().unwrap()
    };
    for (layer, same) in [(0, true), (1, false), (2, true)] {
        for matrix in ["w1", "w2", "w3"] {
            let [first, second] = [0, 1].map(|slot| bytes(layer, &format!("experts.{slot}.{matrix}")));
            assert_eq!(first == second, same, "layer {layer}");
        }
        let gate = bytes(layer, "gate");
        let (first, second) = gate.split_at(gate.len() / 2);
        assert_eq!(first == second, same, "layer {layer}");
    }
}

/// The specialists of `examples/tiny`: the base everywhere, code below, math and story above.
fn write_tiny(dir: &Path) {
    let tiny = fs::canonicalize(example("tiny")).unwrap();
    let mut recipe = format!(
        "base_model: {0}/base\ngate_mode: calibrated\ncalibration_tokens: 800\nsplice_texts: false\nexperts:\n",
        tiny.display()
    );
    for (name, layers) in [("code", "layers: 0-2"), ("math", ""), ("story", "layers: [3, 4]")] {
        let tiny = tiny.display();
        recipe += &format!(
            "- {{source_model: {tiny}/{name}, positive_prompts_file: {tiny}/calibration/{name}.txt, {layers}}}\n"
        );
    }
    fs::write(dir.join("moe.yml"), recipe).unwrap();
}

#[test]
fn experts_of_different_layers_share_a_slot_and_are_fitted_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_tiny(dir);
    let planned = moerge_ok(dir, &["plan", "moe.yml", "out", "--json"]);
    let planned: Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert_eq!(planned["experts"], 2);
    assert_eq!(planned["slots"], json!([[0, 1], [0, 1], [0, 1], [2, 1], [2, 1]]));
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);
    moerge_ok(dir, &["verify", "out"]);
    let bytes: u64 = fs::read_dir(dir.join("out")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    let bound = planned["output"]["max_bytes"].as_u64().unwrap();
    assert!((bytes..2 * bytes).contains(&bound), "{bytes} of at most {bound}");

    let report = fs::read_to_string(dir.join("out/routing_report.json")).unwrap();
    let report = RoutingReport::parse(&report).unwrap();
    assert_eq!(report.experts.len(), 3);
    for (number, layer) in report.layers.iter().enumerate() {
        let (here, absent) = if number < 3 { ([0, 1], 2) } else { ([2, 1], 0) };
        assert_eq!(layer.slots, here);
        assert!(layer.accuracy > 0.9, "layer {number}: {layer:?}");
        assert!((layer.load[absent], &layer.confusion[absent]) == (0.0, &vec![0.0; 3]));
        assert!((layer.load.iter().sum::<f64>() - 1.0).abs() < 1e-3, "{layer:?}");
        for own in here {
            let row = &layer.confusion[own as usize];
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-3 && row[own as usize] > 0.8, "{layer:?}");
        }
    }

    // The record says what each slot is made of, and the picture goes by experts, not by slots.
    let record: Value = serde_json::from_slice(&fs::read(dir.join("out/moerge.json")).unwrap()).unwrap();
    let from = |layer: usize| {
        let name = format!("model.layers.{layer}.block_sparse_moe.experts.0.w1.weight");
        let tensors = record["tensors"].as_array().unwrap();
        tensors.iter().find(|t| t["name"] == name).unwrap()["from"][0].as_str().unwrap().to_owned()
    };
    assert!(from(2).contains("/code: model.layers.2.") && from(3).contains("/story: model.layers.3."));
    let card = fs::read_to_string(dir.join("out/README.md")).unwrap();
    assert!(card.contains("2 of 2 experts") && card.contains("code (layers 0-2)"), "{card}");
    let text = example("tiny/valid/story.txt").canonicalize().unwrap().display().to_string();
    let routed = moerge_ok(dir, &["route", "out", "--text", &text, "--tokens", "600", "--json", "--quiet"]);
    let routed: Value = serde_json::from_slice(&routed.stdout).unwrap();
    assert_eq!(routed["experts"], json!(["code", "math", "story"]));
    for layer in 0..5 {
        let (absent, own) = if layer < 3 { (2, Value::Null) } else { (0, routed["layers"][layer]["accuracy"].clone()) };
        assert_eq!(routed["layers"][layer]["absent"], json!([absent]));
        let layer_of_text = &routed["texts"][0]["layers"][layer];
        assert_eq!(layer_of_text["chosen"][absent], 0.0);
        assert_eq!(routed["layers"][layer]["accuracy"], own);
        assert!(own.is_null() || own.as_f64().unwrap() > 0.8, "{own}");
    }
}

#[test]
fn layers_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let told = |more: &str, layers: [&str; 3]| {
        for (seed, name) in (1..).zip(["base", "a", "b"]) {
            write_model(&dir.join(name), &llama(&json!({})), seed);
        }
        let [first, second, third] = layers;
        let recipe = format!(
            "base_model: base\ngate_mode: random\n{more}experts:\n- {{source_model: base{first}}}\n\
             - {{source_model: a{second}}}\n- {{source_model: b{third}}}\n"
        );
        fs::write(dir.join("moe.yml"), recipe).unwrap();
        let output = moerge(dir, &["plan", "moe.yml"]);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let beyond = told("", ["", ", layers: [0, 1-3]", ""]);
    assert!(beyond.contains("expert 1 cannot be in layer 3") && beyond.contains("moe.yml:5:33"), "{beyond}");
    assert!(beyond.contains("the base has layers 0 to 2"), "{beyond}");
    let empty = told("", [", layers: [0]", ", layers: 0", ", layers: 0"]);
    assert!(
        empty.contains("no expert is in layers 1-2")
            && empty.contains("hint: put one expert, such as the base, in all layers"),
        "{empty}"
    );
    let few = told("experts_per_token: 3\n", ["", ", layers: 0", ", layers: 1-2"]);
    assert!(few.contains("`experts_per_token` is 3, but no layer has more than 2 experts"), "{few}");
    let uneven = told("experts_per_token: 3\n", ["", "", ", layers: 1"]);
    assert!(uneven.contains("`experts_per_token` is 3, and layers 0, 2 have fewer experts"), "{uneven}");
}
