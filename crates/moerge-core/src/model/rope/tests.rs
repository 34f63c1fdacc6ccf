//! Invalid RoPE parameters. The golden models test that valid ones give transformers' angles.

use insta::assert_snapshot;
use serde_json::json;

use super::*;

fn error(config: Value) -> String {
    Rope::from_config(config.as_object().unwrap(), 4, 2048, 10_000.0).expect_err("the rope was accepted")
}

fn scaling(scaling: Value) -> String {
    error(json!({"rope_scaling": scaling}))
}

#[test]
fn a_value_of_the_wrong_kind() {
    assert_snapshot!(error(json!({"rope_theta": "10000"})), @r#"`rope_theta` is "10000", expected a number above 0"#);
    assert_snapshot!(error(json!({"rope_theta": 0})), @"`rope_theta` is 0, expected a number above 0");
    assert_snapshot!(error(json!({"rope_scaling": [1]})), @"`rope_scaling` is [1], expected an object or null");
    assert_snapshot!(error(json!({"rope_parameters": "default"})), @r#"`rope_parameters` is "default", expected an object or null"#);
    assert_snapshot!(scaling(json!({"rope_type": 3})), @"`rope_type` is 3, expected a string");
    assert_snapshot!(scaling(json!({"rope_type": "linear", "factor": -2})), @"rope parameter `factor` is -2, expected a number above 0");
    assert_snapshot!(scaling(json!({"rope_type": "yarn", "factor": 2, "truncate": "no"})), @"rope parameter `truncate` is not true or false");
    assert_snapshot!(scaling(json!({"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 0})), @"`original_max_position_embeddings` is 0, expected a number of tokens");
}

#[test]
fn a_missing_parameter() {
    assert_snapshot!(scaling(json!({"type": "linear"})), @"rope type `linear` needs `factor`");
    assert_snapshot!(scaling(json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1})), @"rope type `llama3` needs `high_freq_factor`");
    assert_snapshot!(scaling(json!({"type": "longrope", "short_factor": [1, 1]})), @"rope type longrope needs `long_factor`");
}

#[test]
fn an_unknown_type() {
    assert_snapshot!(scaling(json!({"rope_type": "mrope"})), @"rope type `mrope` is not supported (default, linear, dynamic, yarn, longrope, llama3)");
}

#[test]
fn a_rope_for_each_kind_of_layer() {
    assert_snapshot!(error(json!({"rope_parameters": {"full_attention": {}, "sliding_attention": {}}})), @"different rope parameters for different layers are not supported");
}

#[test]
fn longrope_with_too_few_divisors() {
    assert_snapshot!(scaling(json!({"type": "longrope", "short_factor": [1], "long_factor": [1, 1]})), @"rope parameter `short_factor` must be 2 numbers above 0");
    assert_snapshot!(scaling(json!({"type": "longrope", "short_factor": [1, 0], "long_factor": [1, 1]})), @"rope parameter `short_factor` must be 2 numbers above 0");
}

#[test]
fn longrope_from_a_context_of_one_token() {
    let config = json!({"type": "longrope", "short_factor": [1, 1], "long_factor": [1, 1], "original_max_position_embeddings": 1});
    assert_snapshot!(scaling(config), @"rope type longrope needs a longer original context than 1");
}
