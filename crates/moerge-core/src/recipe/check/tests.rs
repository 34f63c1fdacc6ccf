//! Every rule between a recipe's values.

use insta::assert_snapshot;

use super::*;
use crate::rendered::rendered;

const TRAINING_FOLLOWS: CheckOptions = CheckOptions { allow_same_experts: true };

fn checked(text: &str, options: &CheckOptions) -> String {
    let recipe = Recipe::parse("moe.yml", text).unwrap_or_else(|e| panic!("{}", rendered(&e)));
    match check(&recipe, options) {
        Ok(warnings) if warnings.is_empty() => "ok".to_owned(),
        Ok(warnings) => warnings.iter().map(|w| format!("warning: {w}\n")).collect(),
        Err(error) => rendered(&error),
    }
}

/// A recipe of these experts, each a line in braces.
fn recipe(experts: &[&str], more: &str) -> String {
    let experts: String = experts.iter().map(|e| format!("  - {{{e}}}\n")).collect();
    format!("base_model: base\n{more}\nexperts:\n{experts}")
}

fn check_of(experts: &[&str], more: &str) -> String {
    checked(&recipe(experts, more), &CheckOptions::default())
}

const CODE: &str = "source_model: code, positive_prompts: [python]";
const MATH: &str = "source_model: math, positive_prompts: [sum]";

#[test]
fn two_models_with_prompts_are_fine() {
    assert_eq!(check_of(&[CODE, MATH], ""), "ok");
}

#[test]
fn the_base_may_be_an_expert() {
    assert_eq!(check_of(&[CODE, "source_model: base, positive_prompts: [chat]"], ""), "ok");
}

#[test]
fn no_experts() {
    assert_snapshot!(checked("base_model: base\nexperts: []\n", &CheckOptions::default()), @"
    error: the recipe has no experts
      --> moe.yml:1:13
    1 | base_model: base
      |             ^^^^ the base alone is not a Mixture of Experts
      hint: list at least two models under `experts`
    ");
}

#[test]
fn one_expert() {
    assert_snapshot!(check_of(&[CODE], "experts_per_token: 1"), @"
    error: the recipe has only one expert, so its router has nothing to choose
      --> moe.yml:4:20
    4 |   - {source_model: code, positive_prompts: [python]}
      |                    ^^^^ the only expert
      hint: list at least two models under `experts`
    ");
}

#[test]
fn one_expert_that_will_be_trained() {
    assert_snapshot!(checked(&recipe(&[CODE], "experts_per_token: 1"), &TRAINING_FOLLOWS), @"warning: the recipe has only one expert, so its router has nothing to choose");
}

#[test]
fn one_expert_with_random_gates_as_in_mergekit() {
    assert_snapshot!(check_of(&["source_model: code"], "gate_mode: random\nexperts_per_token: 1"), @"warning: the recipe has only one expert, so its router has nothing to choose");
}

#[test]
fn one_expert_but_two_per_token() {
    assert_snapshot!(checked(&recipe(&[CODE], ""), &TRAINING_FOLLOWS), @"
    error: `experts_per_token` is 2, but there is only 1 expert
      hint: 2 is the default; add `experts_per_token: 1`, or another expert
    ");
}

#[test]
fn fewer_experts_than_per_token() {
    assert_snapshot!(check_of(&[CODE, MATH], "experts_per_token: 3"), @"
    error: `experts_per_token` is 3, but there are only 2 experts
      --> moe.yml:2:20
    2 | experts_per_token: 3
      |                    ^
      hint: `experts_per_token: 2` or less, or another expert
    ");
}

#[test]
fn no_experts_per_token() {
    assert_snapshot!(check_of(&[CODE, MATH], "experts_per_token: 0"), @"
    error: `experts_per_token` is 0, so no token would reach an expert
      --> moe.yml:2:20
    2 | experts_per_token: 0
      |                    ^
      hint: 1 or more; 2 is usual
    ");
}

#[test]
fn too_many_experts() {
    assert_snapshot!(check_of(&vec![CODE; 4097], ""), @"
    error: the recipe has 4097 experts
      --> moe.yml:4100:20
    4100 |   - {source_model: code, positive_prompts: [python]}
         |                    ^^^^ at most 4096 are allowed
    ");
}

#[test]
fn one_text_for_all_where_losses_say_whose_a_token_is() {
    let math = "source_model: math, positive_prompts: [python]";
    assert_eq!(check_of(&[CODE, math], "gate_mode: calibrated\nlabel: loss"), "ok");
    assert!(check_of(&[CODE, math], "gate_mode: calibrated").starts_with("error: the prompts are the same"));
}

#[test]
fn an_expert_without_prompts() {
    assert_snapshot!(check_of(&[CODE, "source_model: math, negative_prompts: [poem]"], "gate_mode: cheap_embed"), @"
    error: expert 1 has no positive prompts
      --> moe.yml:5:20
    5 |   - {source_model: math, negative_prompts: [poem]}
      |                    ^^^^ `gate_mode: cheap_embed` makes its router from them
      hint: `gate_mode: self_calibrated` needs none: the experts generate the text
      hint: or add `positive_prompts`; `gate_mode: random` is for training afterwards
    ");
}

#[test]
fn the_same_prompts_for_all() {
    assert_snapshot!(check_of(&[CODE, "source_model: math, positive_prompts: [python]"], ""), @"
    error: the prompts are the same for all experts, so their gates would be too
      --> moe.yml:5:20
    5 |   - {source_model: math, positive_prompts: [python]}
      |                    ^^^^ the same prompts as expert 0
      hint: `gate_mode: self_calibrated` needs none: the experts generate the text
      hint: or give each expert prompts like the texts it should see
    ");
}

#[test]
fn the_same_prompts_for_some() {
    assert_snapshot!(check_of(&[CODE, MATH, "source_model: story, positive_prompts: [python]"], ""), @"warning: experts 0, 2 have the same prompts, so also the same gates");
}

#[test]
fn the_same_positive_but_other_negative_prompts() {
    assert_snapshot!(check_of(&[CODE, "source_model: math, positive_prompts: [python], negative_prompts: [x]"], ""), @"ok");
}

#[test]
fn a_prompt_both_positive_and_negative() {
    assert_snapshot!(check_of(&[CODE, "source_model: math, positive_prompts: [sum], negative_prompts: [sum]"], ""), @"warning: expert 1 has a prompt that is both positive and negative");
}

#[test]
fn the_same_model_for_all() {
    assert_snapshot!(check_of(&[CODE, "source_model: code, positive_prompts: [sum]"], ""), @"
    error: all experts are the same model: the result is larger and slower, and says the same
      --> moe.yml:5:20
    5 |   - {source_model: code, positive_prompts: [sum]}
      |                    ^^^^ the same as expert 0
      hint: use models that were fine-tuned for different things
    ");
}

#[test]
fn the_same_model_with_noise() {
    assert_snapshot!(check_of(&[CODE, "source_model: code, positive_prompts: [sum], noise_scale: 0.1"], "gate_mode: uniform_random"), @"
    error: all experts are the same model: they differ by noise only
      --> moe.yml:5:20
    5 |   - {source_model: code, positive_prompts: [sum], noise_scale: 0.1}
      |                    ^^^^ the same as expert 0
      hint: use models that were fine-tuned for different things
    ");
}

#[test]
fn the_same_model_that_will_be_trained() {
    assert_snapshot!(checked(&recipe(&[CODE, "source_model: code, positive_prompts: [sum]"], ""), &TRAINING_FOLLOWS), @"warning: all experts are the same model: the result is larger and slower, and says the same");
}

#[test]
fn the_same_model_with_random_gates_as_in_mergekit() {
    assert_snapshot!(check_of(&["source_model: code", "source_model: code"], "gate_mode: random"), @"warning: all experts are the same model: the result is larger and slower, and says the same");
}

#[test]
fn the_same_model_with_other_adapters() {
    assert_snapshot!(check_of(&[CODE, "source_model: code+math, positive_prompts: [sum]"], ""), @"ok");
}

#[test]
fn random_gates_need_no_prompts() {
    assert_snapshot!(check_of(&["source_model: a", "source_model: b"], "gate_mode: uniform_random"), @"ok");
}

#[test]
fn random_gates_ignore_prompts() {
    assert_snapshot!(check_of(&[CODE, MATH], "gate_mode: random"), @"warning: `gate_mode: random` uses no prompts; those of the recipe are ignored");
}

#[test]
fn two_shared_experts() {
    assert_snapshot!(check_of(&[CODE, MATH], "shared_experts: [{source_model: a}, {source_model: b}]"), @"
    error: the recipe has 2 shared experts
      --> moe.yml:2:52
    2 | shared_experts: [{source_model: a}, {source_model: b}]
      |                                                    ^ the second
      hint: no MoE family has more than one; keep one, or make the others routed experts
    ");
}

#[test]
fn a_shared_expert_with_negative_prompts_only() {
    assert_snapshot!(check_of(&[CODE, MATH], "shared_experts: [{source_model: a, negative_prompts: [x]}]"), @"
    error: the shared expert has negative prompts but no positive ones
      --> moe.yml:2:33
    2 | shared_experts: [{source_model: a, negative_prompts: [x]}]
      |                                 ^
      hint: add `positive_prompts`, or delete the negative ones
    ");
}

#[test]
fn a_shared_expert() {
    assert_snapshot!(check_of(&[CODE, MATH], "shared_experts: [{source_model: a}]"), @"ok");
}

#[test]
fn a_shared_expert_is_in_all_layers() {
    let more = "gate_mode: random\nshared_experts: [{source_model: c, layers: [0-3, 5]}]";
    assert_snapshot!(check_of(&[CODE, MATH], more), @"
    error: a shared expert is in every layer
      --> moe.yml:3:45
    3 | shared_experts: [{source_model: c, layers: [0-3, 5]}]
      |                                             ^^^
      hint: `layers` is for routed experts
    ");
}
