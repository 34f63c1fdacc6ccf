//! MoE models in the layout that transformers 5 holds them in: all experts of a layer in two tensors.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::{Checkpoint, LocalStorage, ReadStorage};
use moerge_core::{
    inspect::inspect,
    model::{config::ModelConfig, families::describe},
    progress::Silent,
};
use moerge_infer::decoder::{CheckpointWeights, Pass, forward, logits};
use moerge_lib::verify::{FindingKind, Severity, verify};

/// The logits of some tokens.
fn scores(dir: &Path) -> Vec<f32> {
    let path = dir.join("config.json");
    let config = ModelConfig::parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
    let description = describe(&config).unwrap();
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let checkpoint = Checkpoint::open(&storage, dir).unwrap();
    let weights = CheckpointWeights::new(&checkpoint, &description).unwrap();
    let tokens = vec![(3..40).collect()];
    let x = forward(&weights, &tokens, Pass::default(), &mut (), &Silent).unwrap();
    logits(&weights, &x, &Silent).unwrap().to_tokens()
}

fn check(model: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (classic, fused) = (crate::common::golden(model), dir.path().join("fused"));
    crate::common::write_fused(&classic, &fused);
    assert_eq!(scores(&fused), scores(&classic), "{model}");

    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let report = verify(&storage, &fused, 1, &Silent).unwrap();
    let found: Vec<_> = report.findings.iter().map(|f| (f.severity, f.kind)).collect();
    assert_eq!(found, [(Severity::Warning, FindingKind::Layout)], "{model}: {:?}", report.findings);

    let [ours, theirs] = [&fused, &classic].map(|dir| inspect(&storage, dir).unwrap());
    assert_eq!((ours.parameters, ours.active_parameters), (theirs.parameters, theirs.active_parameters));
    assert!(ours.parts.iter().all(|part| !part.name.starts_with("other")), "{:?}", ours.parts);
}

#[test]
fn mixtral() {
    check("mixtral");
}

#[test]
fn qwen2_moe() {
    check("qwen2_moe");
}

#[test]
fn qwen3_moe() {
    check("qwen3_moe");
}

/// A layout that is neither is told in the classic names, and a fused tensor of another shape is refused.
#[test]
fn what_is_missing_or_misshapen_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let fused = dir.path().join("fused");
    crate::common::write_fused(&crate::common::golden("mixtral"), &fused);
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let error = |layers: usize, width: usize| {
        let path = fused.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["num_hidden_layers"] = layers.into();
        config["intermediate_size"] = width.into();
        let config = ModelConfig::parse(&config.to_string(), &path).unwrap();
        let description = describe(&config).unwrap();
        let checkpoint = Checkpoint::open(&storage, &fused).unwrap();
        let error = CheckpointWeights::new(&checkpoint, &description).map(|_| ()).unwrap_err();
        error.to_string()
    };
    let width = width_of(&fused);
    assert!(error(3, width + 1).contains("model.layers.0.mlp.experts.gate_up_proj has the wrong shape"));
    assert!(error(4, width).contains("model.layers.3."), "{}", error(4, width));
}

fn width_of(dir: &Path) -> usize {
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    config["intermediate_size"].as_u64().unwrap() as usize
}
