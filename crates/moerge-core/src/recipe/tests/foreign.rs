//! Keys of mergekit's other commands and of model cards, as public recipes have them.

use insta::assert_snapshot;

use super::*;

fn warnings(text: &str) -> String {
    recipe(text).warnings.join("\n")
}

#[test]
fn keys_that_say_what_is_done_anyway_are_accepted_silently() {
    for line in ["tokenizer_source: base", "merge_method: moe", "merge_method: Mixtral", "chat_template: base", "name:"]
    {
        assert_eq!(warnings(&with(line)), "", "{line}");
    }
    assert_eq!(warnings(&with("x-prompts: &prompts [a, b]")), "");
}

#[test]
fn fault_recipes_harmless_keys_get_a_warning_with_their_line_and_the_reason() {
    let lines = "merge_method: slerp\ntokenizer_source: union\nparameters:\n  normalize: true\nint8_mask: true\n\
                 out_dtype: float16\nname: Beyonder\nchat_template: chatml\ntrust_remote_code: true";
    assert_snapshot!(warnings(&with(lines)), @"
    line 5: `merge_method` has no effect: a recipe with `experts` makes a Mixture of Experts
    line 6: `tokenizer_source` has no effect: the output has the tokenizer of the base
    line 7: `parameters` has no effect: it belongs to merges of dense models
    line 9: `int8_mask` has no effect: it belongs to merges of dense models
    line 10: `out_dtype` has no effect: `dtype` sets the type of the output
    line 11: `name` has no effect: it describes the model, and the recipe is kept with the output
    line 12: `chat_template` has no effect: the output has the chat template of the base
    line 13: `trust_remote_code` has no effect: no code of a model is ever run
    ");
}

#[test]
fn one_warning_for_a_key_that_every_expert_has() {
    let experts: String = (0..6).map(|i| format!("  - source_model: m{i}\n    name: n{i}\n")).collect();
    let text = format!("base_model: a\nexperts:\n{experts}");
    assert_snapshot!(warnings(&text), @"lines 4, 6, 8 and 3 more: `name` has no effect: it describes the model, and the recipe is kept with the output");
}

#[test]
fn the_warnings_of_a_recipe_come_with_those_of_the_check() {
    let recipe = recipe(&with("tokenizer_source: union\ngate_mode: random"));
    let warnings = check::check(&recipe, &check::CheckOptions::default()).unwrap();
    assert_eq!(warnings, ["line 5: `tokenizer_source` has no effect: the output has the tokenizer of the base"]);
}

#[test]
fn fault_recipes_keys_that_would_change_the_result_are_errors() {
    assert_snapshot!(error(&with("slices:\n  - sources: []\nseed: 7\nnum_experts: 4")), @"
    error: unknown key `slices`
      --> moe.yml:5:1
    5 | slices:
      | ^^^^^^ it builds a dense model: write it as a document before this one, with a `name`
    error: unknown key `seed`
      --> moe.yml:7:1
    7 | seed: 7
      | ^^^^ did you mean `random_seed`?
    error: unknown key `num_experts`
      --> moe.yml:8:1
    8 | num_experts: 4
      | ^^^^^^^^^^^ the number of experts is the length of `experts`
    ");
    assert_snapshot!(error(&expert("lora: x\nlayer_range: [0, 8]")), @"
    error: unknown key `lora`
      --> moe.yml:4:5
    4 |     lora: x
      |     ^^^^ write `source_model: model+adapter`
    error: unknown key `layer_range`
      --> moe.yml:5:5
    5 |     layer_range: [0, 8]
      |     ^^^^^^^^^^^ write `layers: 0-11`; both ends are included
    ");
}

#[test]
fn names_of_other_tools_for_a_key_are_recognised() {
    assert_snapshot!(error("base_model: a\nexperts:\n  - model: b\n    prompts: [x]\n  - source_model: c\n"), @"
    error: unknown key `model`
      --> moe.yml:3:5
    3 |   - model: b
      |     ^^^^^ did you mean `source_model`?
    error: unknown key `prompts`
      --> moe.yml:4:5
    4 |     prompts: [x]
      |     ^^^^^^^ did you mean `positive_prompts`?
    ");
}

#[test]
fn a_slip_in_a_harmless_key_is_recognised() {
    assert_snapshot!(error(&with("tokeniser_source: base")), @"
    error: unknown key `tokeniser_source`
      --> moe.yml:5:1
    5 | tokeniser_source: base
      | ^^^^^^^^^^^^^^^^ did you mean `tokenizer_source`?
    ");
}
