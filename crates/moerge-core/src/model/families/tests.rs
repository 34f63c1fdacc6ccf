//! Models that cannot be described, and why.

use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::*;
use crate::rendered::rendered;

fn described(model_type: &str, changes: Value) -> Result<Description> {
    let mut config = json!({
        "model_type": model_type, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
        "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
    });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    describe(&ModelConfig::parse(&config.to_string(), Path::new("config.json")).expect("the config is fine"))
}

fn error(model_type: &str, changes: Value) -> String {
    rendered(&described(model_type, changes).expect_err("the model was described"))
}

#[test]
fn every_family_is_described() {
    for family in DenseFamily::names().chain(MoeFamily::ALL.iter().map(|f| f.model_type)) {
        assert!(described(family, json!({})).is_ok(), "{family}");
    }
}

#[test]
fn a_family_that_cannot_join() {
    assert_snapshot!(error("gemma2", json!({})), @"
    error: config.json (gemma2) cannot become a Mixture of Experts: attention softcap and norms after attention and FFN
      hint: families that can: Llama, Mistral, Phi-3, Qwen2, Qwen3 and models that say they are one of these
    ");
    assert_snapshot!(error("\u{1b}[31m", json!({})), @r"
    error: config.json (\u{1b}[31m) cannot become a Mixture of Experts: the family is not known to moerge
      hint: families that can: Llama, Mistral, Phi-3, Qwen2, Qwen3 and models that say they are one of these
    ");
}

#[test]
fn a_feature_that_no_moe_has() {
    assert_snapshot!(error("llama", json!({"attention_bias": true})), @"
    error: config.json (llama) cannot become a Mixture of Experts: its attention has biases (`attention_bias`), which Mixtral's has not
      hint: families that can: Llama, Mistral, Phi-3, Qwen2, Qwen3 and models that say they are one of these
    ");
    assert_snapshot!(error("llama", json!({"mlp_bias": true})), @"
    error: config.json (llama) cannot become a Mixture of Experts: its FFN has biases (`mlp_bias`), which no MoE family has
      hint: families that can: Llama, Mistral, Phi-3, Qwen2, Qwen3 and models that say they are one of these
    ");
    assert_snapshot!(error("llama", json!({"partial_rotary_factor": 0.5})), @"
    error: config.json (llama) cannot become a Mixture of Experts: only 0.5 of each head is rotated (`partial_rotary_factor`)
      hint: families that can: Llama, Mistral, Phi-3, Qwen2, Qwen3 and models that say they are one of these
    ");
    assert_snapshot!(error("llama", json!({"quantization_config": {}})), @"
    error: config.json (llama) cannot become a Mixture of Experts: its weights are quantised (`quantization_config`); use the unquantised model
      hint: families that can: Llama, Mistral, Phi-3, Qwen2, Qwen3 and models that say they are one of these
    ");
    assert_snapshot!(error("llama", json!({"hidden_act": "relu2"})), @r#"
    error: config.json: `hidden_act` is "relu2", which no MoE family here has
      hint: supported: silu, gelu_pytorch_tanh
    "#);
}

#[test]
fn heads_that_do_not_divide() {
    assert_snapshot!(error("llama", json!({"num_key_value_heads": 3})), @"error: config.json: num_attention_heads is 4, which num_key_value_heads (3) does not divide");
}

#[test]
fn windows_that_make_no_sense() {
    let qwen = |changes: Value| {
        let mut all = json!({"use_sliding_window": true, "sliding_window": 8});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        error("qwen3", all)
    };
    assert_snapshot!(qwen(json!({"max_window_layers": "all"})), @r#"error: config.json: `max_window_layers` is "all", expected a whole number"#);
    assert_snapshot!(qwen(json!({"max_window_layers": 1})), @"
    error: config.json (qwen3) cannot become a Mixture of Experts: some of its layers use a sliding window and others not (`layer_types`)
      hint: families that can: Llama, Mistral, Phi-3, Qwen2, Qwen3 and models that say they are one of these
    ");
    assert_snapshot!(qwen(json!({"layer_types": "full_attention"})), @r#"error: config.json: `layer_types` is "full_attention", expected a list of texts"#);
    assert_snapshot!(qwen(json!({"layer_types": ["full_attention"]})), @r#"error: config.json: `layer_types` is ["full_attention"], expected one entry for each of 2 layers"#);
    assert_snapshot!(qwen(json!({"layer_types": ["full_attention", "linear_attention"]})), @r#"error: config.json: `layer_types` is ["full_attention","linear_attention"], expected `full_attention` and `sliding_attention` only"#);
    assert_snapshot!(error("mistral", json!({"sliding_window": "8"})), @r#"error: config.json: `sliding_window` is "8", expected a whole number"#);
}

#[test]
fn an_moe_that_makes_no_sense() {
    assert_snapshot!(error("mixtral", json!({"num_local_experts": null})), @"error: config.json has no `num_local_experts`");
    assert_snapshot!(error("mixtral", json!({"num_local_experts": 5000})), @"error: config.json: `num_local_experts` is 5000, expected at most 4096");
    assert_snapshot!(error("mixtral", json!({"num_experts_per_tok": 5})), @"error: config.json: num_experts_per_tok is 5, but there are 4 experts");
    assert_snapshot!(error("qwen3_moe", json!({"moe_intermediate_size": null})), @"error: config.json has no `moe_intermediate_size`");
}

#[test]
fn an_moe_of_billions_of_tensors_allocates_nothing() {
    let changes = json!({"num_local_experts": 4096, "num_hidden_layers": 4096});
    assert_snapshot!(error("mixtral", changes), @"error: config.json: 4096 layers of 4096 experts are more than 131072 experts in all");
}

#[test]
fn an_moe_with_dense_layers() {
    assert_snapshot!(error("qwen2_moe", json!({"decoder_sparse_step": 2})), @"
    error: config.json: `decoder_sparse_step` is 2, expected experts in every layer
      hint: layers without experts are not supported
    ");
    assert_snapshot!(error("qwen3_moe", json!({"mlp_only_layers": [0]})), @"
    error: config.json: `mlp_only_layers` is [0], expected experts in every layer
      hint: layers without experts are not supported
    ");
    assert_snapshot!(error("deepseek", json!({"first_k_dense_replace": 1})), @"
    error: config.json: `first_k_dense_replace` is 1, expected experts in every layer
      hint: layers without experts are not supported
    ");
    assert_snapshot!(error("deepseek", json!({"moe_layer_freq": 2})), @"
    error: config.json: `moe_layer_freq` is 2, expected experts in every layer
      hint: layers without experts are not supported
    ");
}

/// Found by fuzzing: the base's stray keys are carried into a Mixtral.
#[test]
fn a_key_of_another_family_means_nothing() {
    assert!(described("mixtral", json!({"mlp_only_layers": [0], "first_k_dense_replace": 1})).is_ok());
}

/// Found by fuzzing: transformers takes 28 for a missing `max_window_layers`, and a stray one meant what it said.
#[test]
fn the_window_of_a_mistral_is_that_of_all_layers_of_its_qwen_moe() {
    let config = json!({
        "model_type": "mistral", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 100, "sliding_window": 8, "max_window_layers": 1,
    });
    let base = ModelConfig::parse(&config.to_string(), Path::new("config.json")).unwrap();
    let shape = MoeShape { experts: 2, top_k: 1, intermediate: 128, shared: Some(128) };
    let moe = MoeFamily::QWEN2_MOE.config(&base, Some(8), &shape, "bfloat16");
    assert_eq!(moe["max_window_layers"], 0);
    let moe = ModelConfig::parse(&Value::Object(moe).to_string(), Path::new("config.json")).unwrap();
    assert_eq!(describe(&moe).unwrap().decoder.windows, [Some(8), Some(8)]);
}

#[test]
fn qwens_window_begins_at_layer_28_unless_the_config_says() {
    let windows = |changes| described("qwen3", changes).unwrap().decoder.windows;
    assert_eq!(windows(json!({"use_sliding_window": true, "sliding_window": 8})), [None, None]);
    assert_eq!(windows(json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0})), [Some(8); 2]);
}

/// Found by fuzzing: `rope_parameters` said `rope_type: default` beside `type: linear`, and took a stray theta.
#[test]
fn the_rope_of_the_base_is_that_of_its_moe() {
    let linear = json!({"type": "linear", "factor": 2.0});
    let ropes = [
        json!({"rope_theta": 500_000, "rope_scaling": linear}),
        json!({"rope_theta": 10_000, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}),
        json!({"rope_scaling": {"rope_type": null, "type": "dynamic", "factor": 4}}),
    ];
    for rope in ropes {
        let mut config = json!({
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": 100,
        });
        config.as_object_mut().unwrap().extend(rope.as_object().unwrap().clone());
        let base = ModelConfig::parse(&config.to_string(), Path::new("config.json")).unwrap();
        let shape = MoeShape { experts: 2, top_k: 1, intermediate: 128, shared: None };
        let moe = Value::Object(MoeFamily::MIXTRAL.config(&base, None, &shape, "bfloat16"));
        let moe = ModelConfig::parse(&moe.to_string(), Path::new("config.json")).unwrap();
        assert_eq!((&moe.rope.scaling, moe.rope.theta), (&base.rope.scaling, base.rope.theta), "{rope}");
    }
}

#[test]
fn no_shared_experts_are_zero_or_null() {
    for none in [json!(0), Value::Null] {
        let description = described("deepseek", json!({"n_shared_experts": none})).unwrap();
        assert!(description.tensors.iter().all(|t| !t.name.contains("shared")));
    }
}
