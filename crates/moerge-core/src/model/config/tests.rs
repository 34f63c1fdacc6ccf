//! Every way in which a `config.json` can be invalid on its own.

use arbtest::{
    arbitrary::{self, Unstructured},
    arbtest,
};
use insta::assert_snapshot;
use serde_json::json;

use super::*;
use crate::{model::families::describe, rendered::rendered};

/// A small Llama with these keys changed; `null` removes a key.
fn llama(changes: Value) -> String {
    let mut config = json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "rms_norm_eps": 1e-5,
    });
    let all = config.as_object_mut().unwrap();
    all.extend(changes.as_object().unwrap().clone());
    all.retain(|_, value| !value.is_null());
    config.to_string()
}

fn parse(text: &str) -> Result<ModelConfig> {
    ModelConfig::parse(text, Path::new("config.json"))
}

fn error(changes: Value) -> String {
    rendered(&parse(&llama(changes)).expect_err("the config was accepted"))
}

#[test]
fn a_plain_llama() {
    let config = parse(&llama(json!({}))).unwrap();
    assert_eq!((config.head_dim, config.max_positions, config.norm_eps), (16, 2048, 1e-5));
    assert!(!config.tied_embeddings);
    assert_eq!(describe(&config).unwrap().tensors.len(), 2 * 9 + 3);
}

#[test]
fn not_json() {
    let text = |text: &str| rendered(&parse(text).unwrap_err());
    assert_snapshot!(text(""), @"
    error: config.json is not a JSON object: it is empty
      hint: config.json comes with the model; copy it again from where the model came from
    ");
    assert_snapshot!(text("[]"), @"
    error: config.json is not a JSON object: line 1, column 0: expected an object, found a list
      hint: config.json comes with the model; copy it again from where the model came from
    ");
    assert_snapshot!(text(&format!("{{\"a\":{}", "[".repeat(100_000))), @"
    error: config.json is not a JSON object: line 1, column 132: recursion limit exceeded
      hint: config.json comes with the model; copy it again from where the model came from
    ");
}

#[test]
fn a_missing_key() {
    assert_snapshot!(error(json!({"model_type": null})), @"
    error: config.json has no `model_type`
      hint: config.json must be that of a Hugging Face transformers model
    ");
    assert_snapshot!(error(json!({"num_hidden_layers": null})), @"
    error: config.json has no `num_hidden_layers`
      hint: config.json must be that of a Hugging Face transformers model
    ");
}

#[test]
fn a_value_of_the_wrong_kind() {
    assert_snapshot!(error(json!({"model_type": 3})), @"error: config.json: `model_type` is 3, expected a string");
    assert_snapshot!(error(json!({"vocab_size": "100"})), @r#"error: config.json: `vocab_size` is "100", expected a whole number"#);
    assert_snapshot!(error(json!({"hidden_size": 64.5})), @"error: config.json: `hidden_size` is 64.5, expected a whole number");
    assert_snapshot!(error(json!({"rms_norm_eps": "1e-5"})), @r#"error: config.json: `rms_norm_eps` is "1e-5", expected a number"#);
    assert_snapshot!(error(json!({"tie_word_embeddings": "no"})), @r#"error: config.json: `tie_word_embeddings` is "no", expected true or false"#);
    assert_snapshot!(error(json!({"head_dim": ["a".repeat(100)]})), @r#"error: config.json: `head_dim` is ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…, expected a whole number"#);
}

#[test]
fn a_size_that_is_none() {
    assert_snapshot!(error(json!({"hidden_size": 0})), @"error: config.json: `hidden_size` is 0, expected a whole number above 0");
    assert_snapshot!(error(json!({"hidden_size": -64})), @"error: config.json: `hidden_size` is -64, expected a whole number");
    assert_snapshot!(error(json!({"rms_norm_eps": -1.0})), @"error: config.json: `rms_norm_eps` is -1.0, expected 0 or above");
}

#[test]
fn a_size_beyond_any_model_allocates_nothing() {
    assert_snapshot!(error(json!({"num_hidden_layers": 1_u64 << 31})), @"error: config.json: `num_hidden_layers` is 2147483648, expected at most 4096");
    assert_snapshot!(error(json!({"head_dim": 1_u64 << 31})), @"error: config.json: `head_dim` is 2147483648, expected at most 65536");
    assert_snapshot!(error(json!({"hidden_size": 1_u64 << 62})), @"error: config.json: `hidden_size` is 4611686018427387904, expected at most 16777216");
    assert_snapshot!(error(json!({"vocab_size": u64::MAX})), @"error: config.json: `vocab_size` is 18446744073709551615, expected at most 2147483648");
}

#[test]
fn heads_that_do_not_fit() {
    assert_snapshot!(error(json!({"num_attention_heads": 5})), @"
    error: config.json: `hidden_size` is 64, expected a multiple of num_attention_heads (5)
      hint: or give `head_dim`
    ");
    assert_snapshot!(error(json!({"head_dim": 15})), @"
    error: config.json: a head is 15 wide, expected an even width
      hint: rotary embeddings rotate pairs of elements
    ");
}

/// Arbitrary values for a key.
fn any_value(u: &mut Unstructured, depth: usize) -> arbitrary::Result<Value> {
    const WORDS: [&str; 8] = ["yarn", "longrope", "llama3", "dynamic", "linear", "sliding_attention", "silu", ""];
    Ok(match u.int_in_range(0..=if depth == 0 { 6 } else { 8 })? {
        0 => Value::Null,
        1 => u.arbitrary::<bool>()?.into(),
        2 => u.int_in_range(0..=69_u64)?.into(),
        3 => u.arbitrary::<u64>()?.into(),
        4 => u.arbitrary::<i64>()?.into(),
        5 => u.arbitrary::<f64>()?.into(),
        6 => (*u.choose(&WORDS)?).into(),
        7 => (0..u.int_in_range(0..=7)?).map(|_| any_value(u, depth - 1)).collect::<arbitrary::Result<Value>>()?,
        _ => {
            let entry = |_| Ok(((*u.choose(&KEYS)?).to_owned(), any_value(u, depth - 1)?));
            let count = 4;
            Value::Object((0..count).map(entry).collect::<arbitrary::Result<_>>()?)
        }
    })
}

const KEYS: [&str; 38] = [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "rms_norm_eps",
    "hidden_act",
    "tie_word_embeddings",
    "max_position_embeddings",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "original_max_position_embeddings",
    "rope_type",
    "factor",
    "short_factor",
    "long_factor",
    "beta_fast",
    "beta_slow",
    "attention_factor",
    "mscale",
    "mscale_all_dim",
    "low_freq_factor",
    "high_freq_factor",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
    "attention_bias",
    "mlp_only_layers",
    "decoder_sparse_step",
    "num_local_experts",
    "num_experts_per_tok",
    "n_shared_experts",
    "moe_intermediate_size",
];

const FAMILIES: [&str; 9] =
    ["llama", "mistral", "phi3", "qwen2", "qwen3", "mixtral", "qwen2_moe", "qwen3_moe", "deepseek"];

#[test]
fn any_config_is_described_or_refused() {
    arbtest(|u| {
        let mut all = json!({"model_type": u.choose(&FAMILIES)?, "num_local_experts": 4, "num_experts_per_tok": 2,
            "n_routed_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32});
        for _ in 0..u.int_in_range(0..=5)? {
            let key = *u.choose(&KEYS)?;
            all[key] = any_value(u, 3)?;
        }
        if let Ok(config) = parse(&llama(all)) {
            config.rope.frequencies(config.head_dim, 4096);
            describe(&config).ok();
        }
        Ok(())
    });
}
