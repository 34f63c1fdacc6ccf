//! Models that cannot be described, and why.

use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::*;
use crate::{error::Result, rendered::rendered};

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

fn windows(description: &Description) -> Vec<Option<usize>> {
    description.decoder.windows().collect()
}

fn error(model_type: &str, changes: Value) -> String {
    rendered(&described(model_type, changes).expect_err("the model was described"))
}

#[test]
fn every_family_is_described() {
    for family in Family::ALL.map(|f| f.model_type) {
        assert!(described(family, json!({})).is_ok(), "{family}");
    }
}

#[test]
fn a_family_that_cannot_be_read() {
    assert_snapshot!(error("gemma2", json!({})), @"
    error: config.json describes a gemma2 model, which moerge cannot read: it has an attention softcap, and norms after attention and FFN
      hint: supported: Llama, Mistral, Phi-3, Qwen2, Qwen3, Mixtral, DeepSeek-MoE, Qwen2-MoE, Qwen3-MoE, and models that declare one of these as their `model_type`
    ");
    assert_snapshot!(error("\u{1b}[31m", json!({})), @r"
    error: config.json describes a \u{1b}[31m model, which moerge cannot read: the family is not known
      hint: supported: Llama, Mistral, Phi-3, Qwen2, Qwen3, Mixtral, DeepSeek-MoE, Qwen2-MoE, Qwen3-MoE, and models that declare one of these as their `model_type`
    ");
}

#[test]
fn a_feature_that_is_not_supported() {
    assert_snapshot!(error("llama", json!({"mlp_bias": true})), @"
    error: config.json: its FFN has biases (`mlp_bias`)
      hint: FFN biases are not supported
    ");
    assert_snapshot!(error("llama", json!({"partial_rotary_factor": 0.5})), @"
    error: config.json: only 0.5 of each head is rotated (`partial_rotary_factor`)
      hint: partial rotary embeddings are not supported
    ");
    assert_snapshot!(error("llama", json!({"quantization_config": {}})), @"
    error: config.json: its weights are quantised (`quantization_config`)
      hint: use the model that it was quantised from
    ");
    assert_snapshot!(error("llama", json!({"hidden_act": "relu2"})), @r#"
    error: config.json: `hidden_act` is "relu2", which is not supported
      hint: supported: silu, gelu_pytorch_tanh
    "#);
}

#[test]
fn biases_of_attention_are_described_although_no_moe_has_them() {
    let description = described("llama", json!({"attention_bias": true})).unwrap();
    assert!(description.decoder.layers.iter().all(|layer| layer.attention().biases == [true; 4]));
    assert!(description.tensors.iter().any(|t| t.name == "model.layers.1.self_attn.o_proj.bias"));
}

#[test]
fn heads_that_do_not_divide() {
    assert_snapshot!(error("llama", json!({"num_key_value_heads": 3})), @"error: config.json: num_attention_heads is 4, which is not a multiple of num_key_value_heads (3)");
}

#[test]
fn windows_that_make_no_sense() {
    let qwen = |changes: Value| {
        let mut all = json!({"use_sliding_window": true, "sliding_window": 8});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        error("qwen3", all)
    };
    assert_snapshot!(qwen(json!({"max_window_layers": "all"})), @r#"error: config.json: `max_window_layers` is "all", expected a whole number"#);
    assert_snapshot!(qwen(json!({"layer_types": "full_attention"})), @r#"error: config.json: `layer_types` is "full_attention", expected a list of strings"#);
    assert_snapshot!(qwen(json!({"layer_types": ["full_attention"]})), @r#"error: config.json: `layer_types` is ["full_attention"], expected one entry for each of 2 layers"#);
    assert_snapshot!(qwen(json!({"layer_types": ["full_attention", "linear_attention"]})), @r#"error: config.json: `layer_types` is ["full_attention","linear_attention"], expected `full_attention` and `sliding_attention` only"#);
    assert_snapshot!(error("mistral", json!({"sliding_window": "8"})), @r#"error: config.json: `sliding_window` is "8", expected a whole number"#);
    let without_window = json!({"use_sliding_window": false, "layer_types": ["full_attention", "sliding_attention"]});
    assert_snapshot!(qwen(without_window), @r#"
    error: config.json: `layer_types` is ["full_attention","sliding_attention"], expected `full_attention` only, because no window is given
      hint: `sliding_attention` needs a `sliding_window`; in Qwen models `use_sliding_window: true` too
    "#);
}

/// The rules of transformers 5.24's config classes, for a config that has every key about windows.
#[test]
fn fault_04_every_class_has_its_own_rule_for_windows() {
    let all = json!({
        "num_hidden_layers": 4, "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 3,
    });
    let of = |family: &str, changes: Value| {
        let mut all = all.clone();
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let windows = windows(&described(family, all).unwrap());
        windows.into_iter().map(|w| w.map_or("-".to_owned(), |w| w.to_string())).collect::<Vec<_>>().join(" ")
    };
    let families = ["llama", "mistral", "phi3", "qwen2", "qwen3", "mixtral", "deepseek", "qwen2_moe", "qwen3_moe"];
    let table = |changes: Value| families.map(|f| format!("{f}: {}", of(f, changes.clone()))).join("\n");
    assert_snapshot!(table(json!({})), @"
    llama: - - - -
    mistral: 8 8 8 8
    phi3: 8 8 8 8
    qwen2: - - - 8
    qwen3: - - - 8
    mixtral: 8 8 8 8
    deepseek: - - - -
    qwen2_moe: 8 - 8 -
    qwen3_moe: 8 8 8 8
    ");
    let types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"];
    assert_snapshot!(table(json!({"layer_types": types})), @"
    llama: - - - -
    mistral: - 8 8 -
    phi3: 8 8 8 8
    qwen2: - 8 8 -
    qwen3: - 8 8 -
    mixtral: 8 8 8 8
    deepseek: - - - -
    qwen2_moe: - 8 8 -
    qwen3_moe: 8 8 8 8
    ");
    assert_eq!(of("mixtral", json!({"sliding_window": null})), "- - - -");
    assert_eq!(of("qwen2_moe", json!({"use_sliding_window": false})), "- - - -");
}

/// transformers 5.24: Mixtral's base of rotary angles is 1e6 and its epsilon 1e-5 where the config leaves them out.
#[test]
fn absent_keys_have_the_defaults_of_their_class() {
    let parse = |family: &str| {
        let config = json!({
            "model_type": family, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": 100,
        });
        let config = ModelConfig::parse(&config.to_string(), Path::new("config.json")).unwrap();
        (config.rope.theta, config.norm_eps, config.max_positions)
    };
    assert_eq!(parse("mixtral"), (1e6, 1e-5, 131_072));
    assert_eq!(parse("phi3"), (1e4, 1e-5, 4096));
    assert_eq!(parse("llama"), (1e4, 1e-6, 2048));
}

/// The text part of a multimodal model, or what it is.
#[test]
fn fault_12_a_multimodal_config() {
    let text = json!({
        "model_type": "mistral", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "sliding_window": null,
    });
    let parse = |config: Value| ModelConfig::parse(&config.to_string(), Path::new("config.json"));
    let whole = |text: Value| parse(json!({"model_type": "mistral3", "eos_token_id": 7, "text_config": text}));
    let config = whole(text).unwrap();
    assert_eq!((config.model_type.as_str(), config.part_of.as_deref()), ("mistral", Some("mistral3")));
    assert_eq!(config.raw["eos_token_id"], 7);
    assert!(describe(&config).unwrap().text_part);
    let refused = |config: Value| rendered(&parse(config).and_then(|config| describe(&config)).unwrap_err());
    let gemma = json!({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 64}});
    assert_snapshot!(refused(gemma), @"
    error: config.json describes a multimodal gemma3 model whose text part is gemma3_text, which moerge cannot read: it has norms after attention and FFN, and two ropes
      hint: supported: Llama, Mistral, Phi-3, Qwen2, Qwen3, Mixtral, DeepSeek-MoE, Qwen2-MoE, Qwen3-MoE, and models that declare one of these as their `model_type`
    ");
    // LLaVA's config has only what differs from Llama 7B.
    let llava = json!({"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}});
    let llava = parse(llava).unwrap();
    assert_eq!((llava.hidden_size, llava.intermediate_size, llava.layers), (4096, 11_008, 32));
    assert_eq!((llava.kv_heads, llava.vocab_size), (32, 32_064));
    assert_snapshot!(refused(json!({"model_type": "gpt2", "n_embd": 768})), @"
    error: config.json describes a gpt2 model, which moerge cannot read: its FFN is not gated and its norms are LayerNorm
      hint: supported: Llama, Mistral, Phi-3, Qwen2, Qwen3, Mixtral, DeepSeek-MoE, Qwen2-MoE, Qwen3-MoE, and models that declare one of these as their `model_type`
    ");
}

#[test]
fn an_moe_that_makes_no_sense() {
    assert_snapshot!(error("mixtral", json!({"num_local_experts": null})), @"
    error: config.json has no `num_local_experts`
      hint: config.json must be that of a Hugging Face transformers model
    ");
    assert_snapshot!(error("mixtral", json!({"num_local_experts": 5000})), @"error: config.json: `num_local_experts` is 5000, expected at most 4096");
    assert_snapshot!(error("mixtral", json!({"num_experts_per_tok": 5})), @"error: config.json: num_experts_per_tok is 5, but there are 4 experts");
    assert_snapshot!(error("qwen3_moe", json!({"moe_intermediate_size": null})), @"
    error: config.json has no `moe_intermediate_size`
      hint: config.json must be that of a Hugging Face transformers model
    ");
}

#[test]
fn an_moe_of_billions_of_tensors_allocates_nothing() {
    let changes = json!({"num_local_experts": 4096, "num_hidden_layers": 4096});
    assert_snapshot!(error("mixtral", changes), @"error: config.json: 4096 layers of 4096 experts exceed the limit of 131072 experts in all");
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
    let moe = QWEN2_MOE.config(&base, &[Some(8); 2], &shape, "bfloat16");
    assert_eq!(moe["max_window_layers"], 0);
    let moe = ModelConfig::parse(&Value::Object(moe).to_string(), Path::new("config.json")).unwrap();
    assert_eq!(windows(&describe(&moe).unwrap()), [Some(8), Some(8)]);
}

#[test]
fn qwens_window_begins_at_layer_28_unless_the_config_says() {
    let windows = |changes| windows(&described("qwen3", changes).unwrap());
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
        let moe = Value::Object(MIXTRAL.config(&base, &[None; 2], &shape, "bfloat16"));
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
