//! Values that a key cannot have.

use insta::assert_snapshot;

use super::*;

#[test]
fn unknown_gate_mode() {
    assert_snapshot!(error(&with("gate_mode: hiden")), @r#"
    error: `gate_mode` cannot be "hiden"
      --> moe.yml:5:12
    5 | gate_mode: hiden
      |            ^^^^^ did you mean `hidden`?
      hint: it can be `hidden`, `hidden_avg`, `hidden_last`, `cheap_embed`, `random`, `uniform_random`, `router_input`, `calibrated`, `self_calibrated`, `phatgoose`
    "#);
}

#[test]
fn gate_mode_like_no_other() {
    assert_snapshot!(error(&with("gate_mode: best")), @r#"
    error: `gate_mode` cannot be "best"
      --> moe.yml:5:12
    5 | gate_mode: best
      |            ^^^^
      hint: it can be `hidden`, `hidden_avg`, `hidden_last`, `cheap_embed`, `random`, `uniform_random`, `router_input`, `calibrated`, `self_calibrated`, `phatgoose`
    "#);
}

#[test]
fn gate_mode_as_a_list() {
    assert_snapshot!(error(&with("gate_mode: [hidden]")), @"
    error: `gate_mode` is a list, expected a single value
      --> moe.yml:5:12
    5 | gate_mode: [hidden]
      |            ^^^^^^^^
    ");
}

#[test]
fn unknown_dtype() {
    assert_snapshot!(error(&with("dtype: bflat16")), @r#"
    error: `dtype` cannot be "bflat16"
      --> moe.yml:5:8
    5 | dtype: bflat16
      |        ^^^^^^^ did you mean `bfloat16`?
      hint: it can be `bfloat16`, `float16`, `float32`
    "#);
}

#[test]
fn dtype_too_wide() {
    assert_snapshot!(error(&with("dtype: float64")), @r#"
    error: `dtype` is "float64", expected `bfloat16`, `float16` or `float32`
      --> moe.yml:5:8
    5 | dtype: float64
      |        ^^^^^^^
      hint: `float32` is the widest type of weights; sums are taken in float64 whatever the type
    "#);
}

#[test]
fn experts_per_token_in_words() {
    assert_snapshot!(error(&with("experts_per_token: two")), @r#"
    error: `experts_per_token` is "two", expected a whole number, 0 or above
      --> moe.yml:5:20
    5 | experts_per_token: two
      |                    ^^^
      hint: digits only, such as `experts_per_token: 2`
    "#);
}

#[test]
fn experts_per_token_in_parts() {
    assert_snapshot!(error(&with("experts_per_token: 2.5")), @r#"
    error: `experts_per_token` is "2.5", expected a whole number, 0 or above
      --> moe.yml:5:20
    5 | experts_per_token: 2.5
      |                    ^^^
      hint: digits only, such as `experts_per_token: 2`
    "#);
}

#[test]
fn experts_per_token_below_zero() {
    assert_snapshot!(error(&with("experts_per_token: -1")), @r#"
    error: `experts_per_token` is "-1", expected a whole number, 0 or above
      --> moe.yml:5:20
    5 | experts_per_token: -1
      |                    ^^
      hint: digits only, such as `experts_per_token: 2`
    "#);
}

#[test]
fn random_seed_beyond_64_bits() {
    assert_snapshot!(error(&with("random_seed: 18446744073709551616")), @r#"
    error: `random_seed` is "18446744073709551616", expected at most 18446744073709551615
      --> moe.yml:5:14
    5 | random_seed: 18446744073709551616
      |              ^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn unknown_architecture() {
    assert_snapshot!(error(&with("architecture: mixtrall")), @r#"
    error: no MoE family is called "mixtrall"
      --> moe.yml:5:15
    5 | architecture: mixtrall
      |               ^^^^^^^^ did you mean `mixtral`?
      hint: the families are `mixtral`, `deepseek moe`, `qwen moe`, `qwen3 moe`
    "#);
}

#[test]
fn architecture_like_no_other() {
    assert_snapshot!(error(&with("architecture: llama 4 scout")), @r#"
    error: no MoE family is called "llama 4 scout"
      --> moe.yml:5:15
    5 | architecture: llama 4 scout
      |               ^^^^^^^^^^^^^
      hint: the families are `mixtral`, `deepseek moe`, `qwen moe`, `qwen3 moe`
    "#);
}

#[test]
fn noise_below_zero() {
    assert_snapshot!(error(&expert("noise_scale: -0.1")), @r#"
    error: `noise_scale` is "-0.1", expected a standard deviation, 0 or above
      --> moe.yml:4:18
    4 |     noise_scale: -0.1
      |                  ^^^^
      hint: the noise is as often below 0 as above; 0, or no `noise_scale`, adds none
    "#);
}

#[test]
fn noise_not_a_number() {
    assert_snapshot!(error(&expert("noise_scale: .nan")), @r#"
    error: `noise_scale` is ".nan", expected a finite number
      --> moe.yml:4:18
    4 |     noise_scale: .nan
      |                  ^^^^
    "#);
}

#[test]
fn noise_infinite() {
    assert_snapshot!(error(&expert("noise_scale: inf")), @r#"
    error: `noise_scale` is "inf", expected a finite number
      --> moe.yml:4:18
    4 |     noise_scale: inf
      |                  ^^^
    "#);
}

#[test]
fn residual_scale_in_words() {
    assert_snapshot!(error(&expert("residual_scale: half")), @r#"
    error: `residual_scale` is "half", expected a finite number
      --> moe.yml:4:21
    4 |     residual_scale: half
      |                     ^^^^
    "#);
}

#[test]
fn no_model_name() {
    assert_snapshot!(error("base_model: ''\nexperts: [{source_model: x}, {source_model: y}]"), @"
    error: the model's name is empty
      --> moe.yml:1:13
    1 | base_model: ''
      |             ^^
    ");
}

#[test]
fn no_model_before_the_plus() {
    assert_snapshot!(error("base_model: +b\nexperts: [{source_model: x}, {source_model: y}]"), @"
    error: the model's name is empty
      --> moe.yml:1:13
    1 | base_model: +b
      |             ^^
    ");
}

#[test]
fn no_adapter_after_the_plus() {
    assert_snapshot!(error("base_model: a+\nexperts: [{source_model: x}, {source_model: y}]"), @"
    error: the adapter's name, after `+`, is empty
      --> moe.yml:1:13
    1 | base_model: a+
      |             ^^
    ");
}

#[test]
fn no_model_before_the_at() {
    assert_snapshot!(error("base_model: \"@main\"\nexperts: [{source_model: x}, {source_model: y}]"), @r#"
    error: the model's name is empty
      --> moe.yml:1:13
    1 | base_model: "@main"
      |             ^^^^^^^
    "#);
}

#[test]
fn no_path_in_a_model() {
    assert_snapshot!(error("base_model: {model: {path: ''}}\nexperts: [{source_model: x}, {source_model: y}]"), @"
    error: the name is empty
      --> moe.yml:1:21
    1 | base_model: {model: {path: ''}}
      |                     ^^^^^^^^^^
    ");
}

#[test]
fn a_model_without_model() {
    assert_snapshot!(error("base_model: {lora: a}\nexperts: [{source_model: x}, {source_model: y}]"), @"
    error: the model has no `model`
      --> moe.yml:1:14
    1 | base_model: {lora: a}
      |              ^^^^ add `model: org/name`
    ");
}

#[test]
fn a_list_of_models() {
    assert_snapshot!(error("base_model: [a, b]\nexperts: [{source_model: x}, {source_model: y}]"), @"
    error: `base_model` is a list, expected a model
      --> moe.yml:1:13
    1 | base_model: [a, b]
      |             ^^^^^^
      hint: a model is a folder or a Hub id, `org/name`
    ");
}

#[test]
fn a_prompt_file_without_name() {
    assert_snapshot!(error(&expert("positive_prompts_file: \"\"")), @r#"
    error: `positive_prompts_file` is "", expected a file
      --> moe.yml:4:28
    4 |     positive_prompts_file: ""
      |                            ^^
    "#);
}

#[test]
fn a_value_over_several_lines_is_marked_in_its_first() {
    assert_snapshot!(error(&with("gate_mode: best\n  of all")), @r#"
    error: `gate_mode` cannot be "best of all"
      --> moe.yml:5:12
    5 | gate_mode: best
      |            ^^^^
      hint: it can be `hidden`, `hidden_avg`, `hidden_last`, `cheap_embed`, `random`, `uniform_random`, `router_input`, `calibrated`, `self_calibrated`, `phatgoose`
    "#);
    assert_snapshot!(error("base_model: a\nexperts:\n  - [\n    a,\n    b]\n"), @"
    error: expert 0 is a list, expected keys with values
      --> moe.yml:3:5
    3 |   - [
      |     ^
      hint: write `key: value` lines; known keys: `source_model`, `positive_prompts`, `negative_prompts`, `positive_prompts_file`, `negative_prompts_file`, `validation`, `layers`, `shared_weight`, `noise_scale`, `residual_scale`
    ");
}

#[test]
fn layers() {
    let read = |layers: &str| {
        let recipe = recipe(&expert(&format!("layers: {layers}")));
        let layers = recipe.experts[0].layers.clone().unwrap();
        (layers.to_string(), (0..30).filter(|layer| layers.contains(*layer)).collect::<Vec<_>>())
    };
    assert_eq!(read("7"), ("7".to_owned(), vec![7]));
    assert_eq!(read("2-4"), ("2-4".to_owned(), vec![2, 3, 4]), "both ends are included");
    assert_eq!(read("[0 - 2, \"20\", 4-4]"), ("0-2, 20, 4".to_owned(), vec![0, 1, 2, 4, 20]));
}

#[test]
fn layers_that_are_none() {
    assert_snapshot!(error(&expert("layers: []")), @"
    error: `layers` is an empty list, so the expert would be nowhere
      --> moe.yml:4:13
    4 |     layers: []
      |             ^^
      hint: leave `layers` out for an expert in all layers
    ");
    assert_snapshot!(error(&expert("layers: [0-2, 11-4]")), @r#"
    error: `layers` has "11-4" in it, which ends before it begins
      --> moe.yml:4:19
    4 |     layers: [0-2, 11-4]
      |                   ^^^^
      hint: write `4-11`
    "#);
    assert_snapshot!(error(&expert("layers: [0-2, -1]")), @r#"
    error: `layers` has "-1" in it, expected a layer such as `3`, or a range such as `0-11`
      --> moe.yml:4:19
    4 |     layers: [0-2, -1]
      |                   ^^
    "#);
    assert_snapshot!(error(&expert("layers: all")), @r#"
    error: `layers` has "all" in it, expected a layer such as `3`, or a range such as `0-11`
      --> moe.yml:4:13
    4 |     layers: all
      |             ^^^
    "#);
    assert_snapshot!(error(&expert("layers: [[1, 2]]")), @"
    error: `layers` has a list in it, expected a layer such as `3`, or a range such as `0-11`
      --> moe.yml:4:14
    4 |     layers: [[1, 2]]
      |              ^^^^^^
    ");
}
