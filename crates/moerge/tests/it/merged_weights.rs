//! The weights that routers are fitted to are those that are written; and the mean of the experts' shared weights.

use std::{fs, path::Path, sync::Arc};

use crate::common::{llama, moerge, moerge_ok, write_model};
use half::bf16;
use moerge_checkpoint::{Checkpoint, LocalStorage, ReadStorage, TensorView};
use moerge_core::{
    model::families::{LayerRole, Role},
    recipe::Recipe,
};
use moerge_infer::decoder::Weights;
use moerge_lib::{
    merge::{MergeOptions, prepare},
    routers::Merged,
};
use serde_json::{Value, json};

/// A base and two experts of which one is narrower, with noise, scale and `more` in the recipe.
fn write_recipe(dir: &Path, more: &str) {
    write_model(&dir.join("base"), &llama(&json!({})), 1);
    write_model(&dir.join("a"), &llama(&json!({})), 2);
    write_model(&dir.join("b"), &llama(&json!({"intermediate_size": 40})), 3);
    let text = format!(
        "base_model: base\ngate_mode: random\ndtype: bfloat16\n{more}experts:\n\
         - {{source_model: a, noise_scale: 0.02}}\n- {{source_model: b, residual_scale: 0.7, shared_weight: 3}}\n"
    );
    fs::write(dir.join("moe.yml"), text).unwrap();
}

fn open(dir: &Path) -> Checkpoint {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    Checkpoint::open(&storage, dir).unwrap()
}

fn values(view: &TensorView) -> Vec<f32> {
    view.read().unwrap().as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
}

#[test]
fn the_weights_that_are_fitted_to_are_those_that_are_written() {
    for shared in ["base", "average"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write_recipe(dir, &format!("shared_weights: {shared}\n"));
        moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);
        let written = open(&dir.join("out"));

        let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
        let recipe = Recipe::load(&dir.join("moe.yml")).unwrap();
        let prepared = prepare(&storage, recipe, dir, &MergeOptions::default()).unwrap();
        let merged = Merged::new(&prepared.plan).unwrap();
        let mut compared = 0;
        for tensor in &prepared.plan.description.tensors {
            if matches!(tensor.role, Role::Layer(_, LayerRole::Router)) {
                continue;
            }
            let expected = values(written.get(&tensor.name).unwrap());
            let rows = tensor.shape[0];
            let width = expected.len() / rows;
            // In two parts, as the stream does it.
            let mut read = vec![0.0; expected.len()];
            let (first, second) = read.split_at_mut(rows / 3 * width);
            merged.read_rows(tensor.role, 0..rows / 3, first).unwrap();
            merged.read_rows(tensor.role, rows / 3..rows, second).unwrap();
            assert_eq!(read, expected, "{}", tensor.name);
            compared += 1;
        }
        assert_eq!(compared, 3 + 3 * (2 + 4 + 2 * 3), "all but the routers");
    }
}

#[test]
fn shared_weights_are_the_experts_mean() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_recipe(dir, "shared_weights: average\n");
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);
    let (a, b, out) = (open(&dir.join("a")), open(&dir.join("b")), open(&dir.join("out")));
    let names =
        ["model.embed_tokens.weight", "model.layers.1.self_attn.k_proj.weight", "model.norm.weight", "lm_head.weight"];
    for name in names {
        let [a, b, out] = [&a, &b, &out].map(|model| values(model.get(name).unwrap()));
        for ((a, b), out) in a.iter().zip(&b).zip(&out) {
            let mean = (f64::from(*a) + 3.0 * f64::from(*b)) / 4.0;
            assert_eq!(*out, bf16::from_f32(mean as f32).to_f32(), "{name}");
        }
    }
    moerge_ok(dir, &["verify", "out"]);
}

#[test]
fn what_the_base_leaves_behind_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_recipe(dir, "");
    let output = moerge_ok(dir, &["merge", "moe.yml", "out"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("the experts' own differ from it: expert 0 (a) by") && told.contains("shared_weights: average"),
        "{told}"
    );
    assert!(told.contains("`shared_weight` has an effect where `shared_weights` are merged"), "{told}");

    write_recipe(dir, "shared_weights: mean\n");
    let output = moerge(dir, &["merge", "moe.yml", "out2"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("moe.yml:4:17") && told.contains("`base`, `average`"), "{told}");
}

/// Fault 5: attention that works in another way than the base's was averaged without a word.
#[test]
fn fault_05_experts_whose_attention_works_in_another_way_are_left_out_of_the_average() {
    let yarn = json!({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64});
    let cases = [
        (json!({"rope_theta": 500000.0}), "its rope_theta is 500000, the base's is 1000"),
        (json!({"rope_scaling": yarn}), "its rope scaling is not the base's"),
        (
            json!({"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}),
            "it has 2 heads (1 for keys) of 16",
        ),
        (json!({"model_type": "mistral", "sliding_window": null}), "it is a mistral model, the base is llama"),
    ];
    for (changes, why) in cases {
        for shared in ["average", "base"] {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path();
            write_recipe(dir, &format!("shared_weights: {shared}\n"));
            write_model(&dir.join("b"), &llama(&changes), 3);
            let output = moerge_ok(dir, &["merge", "moe.yml", "out"]);
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            let (a, out) = (open(&dir.join("a")), open(&dir.join("out")));
            let equals_a = |name: &str| values(a.get(name).unwrap()) == values(out.get(name).unwrap());
            assert!(printed.contains(why), "{printed}");
            assert_eq!(equals_a("model.norm.weight"), shared == "average", "{printed}");
            assert_eq!(printed.contains("is left out of the merge"), shared == "average", "{printed}");
            assert!(!printed.contains("takes their mean"), "averaging is no advice here: {printed}");
        }
    }
}

/// A window changes what attention sees, not what its weights mean: it is said, and they are averaged.
#[test]
fn fault_05_another_window_or_eps_is_said_whether_weights_are_averaged_or_not() {
    let mistral = |window: Value, eps: f64| {
        llama(&json!({"model_type": "mistral", "sliding_window": window, "rms_norm_eps": eps}))
    };
    for (base, expert, why) in [
        (json!(8), json!(null), "the sliding window of its layer 0 is none, the base's is of 8 tokens"),
        (json!(null), json!(16), "the sliding window of its layer 0 is of 16 tokens, the base's is none"),
        (json!(8), json!(4), "the sliding window of its layer 0 is of 4 tokens, the base's is of 8 tokens"),
    ] {
        for shared in ["average", "base"] {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path();
            write_recipe(dir, &format!("shared_weights: {shared}\n"));
            write_model(&dir.join("base"), &mistral(base.clone(), 1e-5), 1);
            write_model(&dir.join("a"), &mistral(base.clone(), 1e-5), 2);
            write_model(&dir.join("b"), &mistral(expert.clone(), 1e-6), 3);
            let output = moerge_ok(dir, &["plan", "moe.yml"]);
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(printed.contains(why) && printed.contains("its rms_norm_eps is 0.000001"), "{printed}");
            assert!(!printed.contains("is left out"), "{printed}");
        }
    }
}

/// Fault 10: nobody said that all experts were the same.
#[test]
fn fault_10_experts_of_equal_ffns_are_reported_though_their_files_differ() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_recipe(dir, "");
    fs::remove_dir_all(dir.join("b")).unwrap();
    write_model(&dir.join("b"), &llama(&json!({})), 2);
    let text = "base_model: base\ngate_mode: random\nexperts: [{source_model: a}, {source_model: b}]\n";
    fs::write(dir.join("moe.yml"), text).unwrap();
    let output = moerge_ok(dir, &["merge", "moe.yml", "out"]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = "expert 0 (a) and expert 1 (b) have the same feed-forward network in 3 of 3 layers (0-2)";
    assert_eq!(printed.matches(expected).count(), 1, "{printed}");
}
