//! Keys and their shapes: unknown, doubled, missing, and texts where lists belong.

use insta::assert_snapshot;

use super::*;

#[test]
fn empty_file() {
    assert_snapshot!(error(""), @"
    error: the recipe is empty
      --> moe.yml:1:1
    1 | 
      | ^
      hint: a recipe has a `base_model` and a list of `experts`
    ");
}

#[test]
fn comments_only() {
    assert_snapshot!(error("# nothing\n\n"), @"
    error: the recipe is empty
      --> moe.yml:1:1
    1 | # nothing
      | ^
      hint: a recipe has a `base_model` and a list of `experts`
    ");
}

#[test]
fn null_document() {
    assert_snapshot!(error("---\n~\n"), @"
    error: the recipe is empty
      --> moe.yml:1:1
    1 | ---
      | ^
      hint: a recipe has a `base_model` and a list of `experts`
    ");
}

#[test]
fn not_a_mapping() {
    assert_snapshot!(error("just a text\n"), @"
    error: the recipe is a single value, expected keys with values
      --> moe.yml:1:1
    1 | just a text
      | ^^^^^^^^^^^
      hint: write `key: value` lines; known keys: `base_model`, `experts`, `gate_mode`, `label`, `calibration_tokens`, `splice_texts`, `self_text`, `phatgoose`, `shared_weights`, `dtype`, `experts_per_token`, `shared_experts`, `architecture`, `random_seed`
    ");
}

#[test]
fn a_list_at_the_top() {
    assert_snapshot!(error("- base_model: a\n- experts: []\n"), @"
    error: the recipe is a list, expected keys with values
      --> moe.yml:1:1
    1 | - base_model: a
      | ^^^^^^^^^^^^^^^
      hint: write `key: value` lines; known keys: `base_model`, `experts`, `gate_mode`, `label`, `calibration_tokens`, `splice_texts`, `self_text`, `phatgoose`, `shared_weights`, `dtype`, `experts_per_token`, `shared_experts`, `architecture`, `random_seed`
    ");
}

#[test]
fn unknown_key() {
    assert_snapshot!(error(&expert("positve_prompts: [a]")), @"
    error: unknown key `positve_prompts`
      --> moe.yml:4:5
    4 |     positve_prompts: [a]
      |     ^^^^^^^^^^^^^^^ did you mean `positive_prompts`?
    ");
}

#[test]
fn unknown_key_like_no_other() {
    assert_snapshot!(error(&with("colour: red")), @"
    error: unknown key `colour`
      --> moe.yml:5:1
    5 | colour: red
      | ^^^^^^
      hint: known keys: `base_model`, `experts`, `gate_mode`, `label`, `calibration_tokens`, `splice_texts`, `self_text`, `phatgoose`, `shared_weights`, `dtype`, `experts_per_token`, `shared_experts`, `architecture`, `random_seed`
    ");
}

#[test]
fn unknown_key_in_an_expert_like_no_other() {
    assert_snapshot!(error(&expert("colour: red")), @"
    error: unknown key `colour`
      --> moe.yml:4:5
    4 |     colour: red
      |     ^^^^^^
      hint: known keys: `source_model`, `positive_prompts`, `negative_prompts`, `positive_prompts_file`, `negative_prompts_file`, `validation`, `layers`, `shared_weight`, `noise_scale`, `residual_scale`
    ");
}

#[test]
fn unknown_key_in_a_model() {
    assert_snapshot!(error("base_model: {modle: a}\nexperts: [{source_model: x}, {source_model: y}]"), @"
    error: unknown key `modle`
      --> moe.yml:1:14
    1 | base_model: {modle: a}
      |              ^^^^^ did you mean `model`?
    ");
}

#[test]
fn unknown_key_with_control_characters() {
    assert_snapshot!(error(&with("\"\\e[31mred\": 1")), @r#"
    error: unknown key `\u{1b}[31mred`
      --> moe.yml:5:1
    5 | "\e[31mred": 1
      | ^^^^^^^^^^^
      hint: known keys: `base_model`, `experts`, `gate_mode`, `label`, `calibration_tokens`, `splice_texts`, `self_text`, `phatgoose`, `shared_weights`, `dtype`, `experts_per_token`, `shared_experts`, `architecture`, `random_seed`
    "#);
}

#[test]
fn dense_merge() {
    assert_snapshot!(error("merge_method: slerp\nslices:\n  - sources: []\nbase_model: a\n"), @"
    error: this is a recipe for a dense merge, not for a Mixture of Experts
      --> moe.yml:1:1
    1 | merge_method: slerp
      | ^^^^^^^^^^^^
      hint: a recipe for an MoE has a `base_model` and a list of `experts`
    ");
}

#[test]
fn dense_merge_of_models() {
    assert_snapshot!(error("models:\n  - model: a\nmerge_method: ties\n"), @"
    error: this is a recipe for a dense merge, not for a Mixture of Experts
      --> moe.yml:1:1
    1 | models:
      | ^^^^^^
      hint: a recipe for an MoE has a `base_model` and a list of `experts`
    ");
}

#[test]
fn doubled_key() {
    assert_snapshot!(error(&with("gate_mode: random\ngate_mode: hidden")), @"
    error: `gate_mode` is given twice
      --> moe.yml:6:1
    6 | gate_mode: hidden
      | ^^^^^^^^^ the first is in line 5
      hint: keep one of the two
    ");
}

#[test]
fn doubled_key_in_an_expert() {
    assert_snapshot!(error(&expert("noise_scale: 1\nnoise_scale: 2")), @"
    error: `noise_scale` is given twice
      --> moe.yml:5:5
    5 |     noise_scale: 2
      |     ^^^^^^^^^^^ the first is in line 4
      hint: keep one of the two
    ");
}

#[test]
fn no_base_model() {
    assert_snapshot!(error("experts:\n  - source_model: a\n  - source_model: b\n"), @"
    error: the recipe has no `base_model`
      --> moe.yml:1:1
    1 | experts:
      | ^^^^^^^ add `base_model: org/name`
    ");
}

#[test]
fn null_base_model() {
    assert_snapshot!(error("base_model:\nexperts:\n  - source_model: a\n  - source_model: b\n"), @"
    error: the recipe has no `base_model`
      --> moe.yml:1:1
    1 | base_model:
      | ^^^^^^^^^^ add `base_model: org/name`
    ");
}

#[test]
fn no_experts() {
    assert_snapshot!(error("base_model: a\n"), @"
    error: the recipe has no `experts`
      --> moe.yml:1:1
    1 | base_model: a
      | ^^^^^^^^^^ add a list of `experts`
    ");
}

#[test]
fn no_source_model() {
    assert_snapshot!(error("base_model: a\nexperts:\n  - source_model: b\n  - positive_prompts: [x]\n    noise_scale: 1\n"), @"
    error: expert 1 has no `source_model`
      --> moe.yml:4:5
    4 |   - positive_prompts: [x]
      |     ^^^^^^^^^^^^^^^^ add `source_model: org/name`
    ");
}

#[test]
fn experts_is_one_expert() {
    assert_snapshot!(error("base_model: a\nexperts:\n  source_model: b\n"), @"
    error: `experts` is a mapping, expected a list
      --> moe.yml:3:3
    3 |   source_model: b
      |   ^^^^^^^^^^^^^^^
      hint: begin each element with `- `
    ");
}

#[test]
fn experts_is_a_text() {
    assert_snapshot!(error("base_model: a\nexperts: b\n"), @r#"
    error: `experts` is "b", expected a list
      --> moe.yml:2:10
    2 | experts: b
      |          ^
      hint: write `- b` on a line of its own
    "#);
}

#[test]
fn an_expert_is_a_text() {
    assert_snapshot!(error("base_model: a\nexperts:\n  - org/b\n"), @"
    error: expert 0 is a single value, expected keys with values
      --> moe.yml:3:5
    3 |   - org/b
      |     ^^^^^
      hint: write `- source_model: org/b`
    ");
}

#[test]
fn an_expert_is_empty() {
    assert_snapshot!(error("base_model: a\nexperts:\n  -\n"), @"
    error: expert 0 is empty, expected keys with values
      --> moe.yml:3:4
    3 |   -
      |    ^
      hint: write `key: value` lines; known keys: `source_model`, `positive_prompts`, `negative_prompts`, `positive_prompts_file`, `negative_prompts_file`, `validation`, `layers`, `shared_weight`, `noise_scale`, `residual_scale`
    ");
}

#[test]
fn prompts_as_a_mapping() {
    assert_snapshot!(error(&expert("positive_prompts: {a: b}")), @"
    error: `positive_prompts` is a mapping, expected a list
      --> moe.yml:4:23
    4 |     positive_prompts: {a: b}
      |                       ^^^^^^
      hint: begin each element with `- `
    ");
}

#[test]
fn a_prompt_without_text() {
    assert_snapshot!(error(&expert("positive_prompts:\n  - a\n  - ~")), @"
    error: prompt 2 of `positive_prompts` is null
      --> moe.yml:6:9
    6 |       - ~
      |         ^
      hint: write its text, or put quotes around it if this word is meant
    ");
}

#[test]
fn a_prompt_with_a_colon() {
    assert_snapshot!(error(&expert("negative_prompts:\n  - User: hello")), @"
    error: prompt 1 of `negative_prompts` is a mapping, expected a string
      --> moe.yml:5:9
    5 |       - User: hello
      |         ^^^^^^^^^^^
      hint: a string with `: ` in it needs quotes
    ");
}

#[test]
fn a_prompt_in_a_list() {
    assert_snapshot!(error(&expert("negative_prompts:\n  - [a]")), @"
    error: prompt 1 of `negative_prompts` is a list, expected a string
      --> moe.yml:5:9
    5 |       - [a]
      |         ^^^
    ");
}
