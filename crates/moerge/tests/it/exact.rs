//! With all experts copies of one dense model, the MoE's logits are the dense model's: for every family that moerge knows.
//!
//! The dense logits are those that transformers computed in f32 (golden/make.py).

use std::{fs, path::Path, sync::Arc};

use crate::common::{golden, moerge_ok};
use moerge_checkpoint::{Checkpoint, LocalStorage, ReadStorage};
use moerge_core::{
    model::{config::ModelConfig, families::describe},
    progress::Silent,
};
use moerge_infer::decoder::{CheckpointWeights, Pass, forward, logits};

/// Greatest difference of logits that counts as equal.
const TOLERANCE: f32 = 1e-4;

fn floats(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let bytes = checkpoint.get(name).unwrap().read().unwrap();
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Merges copies of `dense` with `more` lines in the recipe, and compares logits.
fn check(dense: &str, model_type: &str, more: &str) {
    check_experts(dense, model_type, &["", "", "", ""], more);
    // Limited to some layers: three slots, of which two in layer 1 and all in layer 2 are the same expert's.
    check_experts(dense, model_type, &["layers: 0-1", "layers: [0]", "layers: [0, 1]", "layers: 2"], more);
}

/// The same with keys for each expert.
fn check_experts(dense: &str, model_type: &str, experts: &[&str], more: &str) {
    let dir = tempfile::tempdir().unwrap();
    let model = golden(dense);
    let experts: String =
        experts.iter().map(|keys| format!("- {{source_model: {}, {keys}}}\n", model.display())).collect();
    let recipe = format!("base_model: {}\ngate_mode: random\nexperts:\n{experts}{more}", model.display());
    fs::write(dir.path().join("moe.yml"), recipe).unwrap();
    moerge_ok(
        dir.path(),
        &["merge", "moe.yml", "out", "--quiet", "--i-understand-this-is-not-useful-without-training"],
    );
    let out = dir.path().join("out");
    let config = ModelConfig::parse(&fs::read_to_string(out.join("config.json")).unwrap(), &out).unwrap();
    assert_eq!(config.model_type, model_type);

    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let expected = Checkpoint::open_file(&storage, &model.join("expected.safetensors")).unwrap();
    let ids = expected.get("input_ids").unwrap().read().unwrap();
    let ids: Vec<u32> = ids.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect();
    let difference = greatest_difference(&storage, &out, &config, &ids, &floats(&expected, "logits"));
    assert!(difference < TOLERANCE, "{dense} as {model_type}: logits differ by {difference}");
}

fn greatest_difference(
    storage: &Arc<dyn ReadStorage>,
    out: &Path,
    config: &ModelConfig,
    ids: &[u32],
    expected: &[f32],
) -> f32 {
    let checkpoint = Checkpoint::open(storage, out).unwrap();
    let description = describe(config).unwrap();
    let weights = CheckpointWeights::new(&checkpoint, &description).unwrap();
    let stream = forward(&weights, &[ids.to_vec()], Pass::default(), &mut (), &Silent).unwrap();
    let scores = logits(&weights, &stream, &Silent).unwrap();
    let logits: Vec<f32> = (0..ids.len()).flat_map(|token| scores.token(token)).collect();
    assert_eq!(logits.len(), expected.len());
    logits.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn llama_becomes_mixtral() {
    check("llama", "mixtral", "");
}

#[test]
fn llama_with_llama3_rope_and_tied_embeddings_becomes_mixtral() {
    check("llama3_rope", "mixtral", "");
}

#[test]
fn llama_with_linear_rope_becomes_mixtral() {
    check("llama_linear", "mixtral", "");
}

#[test]
fn llama_with_dynamic_rope_becomes_mixtral() {
    check("llama_dynamic", "mixtral", "");
}

#[test]
fn llama_with_yarn_rope_becomes_mixtral() {
    check("llama_yarn", "mixtral", "");
}

#[test]
fn mistral_with_its_head_dim_and_window_becomes_mixtral() {
    check("mistral", "mixtral", "");
}

#[test]
fn phi3_becomes_mixtral() {
    check("phi3", "mixtral", "");
}

#[test]
fn qwen2_becomes_qwen2_moe() {
    check("qwen2", "qwen2_moe", "");
}

#[test]
fn qwen3_becomes_qwen3_moe() {
    check("qwen3", "qwen3_moe", "");
}

#[test]
fn llama_becomes_deepseek_moe() {
    check("llama", "deepseek", "architecture: deepseek\n");
}

#[test]
fn llama_becomes_qwen2_moe() {
    check("llama", "qwen2_moe", "architecture: qwen\n");
}
