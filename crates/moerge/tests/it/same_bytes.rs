//! Equal inputs give equal bytes, whatever the number of threads; the plan knows every byte; copied tensors are bit-identical.

use std::{fs, path::Path};

use crate::common::{contents, llama, moerge_ok, write_family, write_model};
use serde_json::{Value, json};

#[test]
fn one_two_and_many_threads_write_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let recipe = write_family(dir, "hidden");
    // Everything that computes: noise, scale, a cast.
    let text = fs::read_to_string(&recipe)
        .unwrap()
        .replace("source_model: a\n", "source_model: a\n    noise_scale: 0.01\n    residual_scale: 0.7\n");
    fs::write(&recipe, text + "dtype: float16\n").unwrap();
    for threads in ["1", "2", "7"] {
        moerge_ok(dir, &["merge", "moe.yml", threads, "-j", threads, "--out-shard-size", "200000", "--quiet"]);
    }
    // The name of the folder is in the card.
    let without_card = |name: &str| {
        let mut files = contents(&dir.join(name));
        files.remove("README.md");
        files.remove("moerge.json");
        files
    };
    assert_eq!(without_card("1"), without_card("2"));
    assert_eq!(without_card("1"), without_card("7"));
}

#[test]
fn the_plan_knows_the_bytes_of_the_result() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "hidden");
    let planned = moerge_ok(dir, &["plan", "moe.yml", "--json", "--out-shard-size", "150000"]);
    let planned: Value = serde_json::from_slice(&planned.stdout).unwrap();
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet", "--out-shard-size", "150000"]);
    for shard in planned["shards"].as_array().unwrap() {
        let (name, bytes) = (shard["name"].as_str().unwrap(), shard["bytes"].as_u64().unwrap());
        assert_eq!(fs::metadata(dir.join("out").join(name)).unwrap().len(), bytes, "{name}");
    }
    assert_eq!(planned["output"]["max_bytes"].as_u64().unwrap(), folder_bytes(&dir.join("out")));
}

fn folder_bytes(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn a_tensor_nobody_changed_is_bit_identical_nan_payloads_included() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let config = llama(&json!({}));
    write_model(&dir.join("base"), &config, 1);
    write_model(&dir.join("a"), &config, 2);
    let path = dir.join("a/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    // A signalling NaN with a payload, in the last tensor of the file: the last layer's up_proj.
    bytes[end - 2..].copy_from_slice(&[0xa5, 0x7f]);
    fs::write(&path, &bytes).unwrap();
    fs::write(
        dir.join("moe.yml"),
        "base_model: base\ngate_mode: random\nexperts:\n- source_model: base\n- source_model: a\n",
    )
    .unwrap();
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);

    let storage: std::sync::Arc<dyn moerge_checkpoint::ReadStorage> =
        std::sync::Arc::new(moerge_checkpoint::LocalStorage);
    let source = moerge_checkpoint::Checkpoint::open(&storage, &dir.join("a")).unwrap();
    let output = moerge_checkpoint::Checkpoint::open(&storage, &dir.join("out")).unwrap();
    for layer in 0..3 {
        for (from, to) in [("gate_proj", "w1"), ("up_proj", "w3"), ("down_proj", "w2")] {
            let from = source.get(&format!("model.layers.{layer}.mlp.{from}.weight")).unwrap().read().unwrap();
            let to = output.get(&format!("model.layers.{layer}.block_sparse_moe.experts.1.{to}.weight")).unwrap();
            assert_eq!(from, to.read().unwrap(), "layer {layer}");
        }
    }
}
