//! All faults of a recipe are reported in one run, in the order of the text.

use insta::assert_snapshot;

use super::*;

const FAULTY: &str = "\
base_model: a
gate_mode: hiden
dtype: int4
experts_per_token: 0
experts:
  - source_model: b
    positve_prompts: [x]
    noise_scale: -1
  - positive_prompts: [y, ~]
  - source_model: c
    layers: [3-1, x]
    residual_scale: half
self_text: {samples: 0, temprature: 1}
shared_experts:
  - {source_model: d, layers: 3}
  - source_model: e
gate_mode: random
";

#[test]
fn fault_recipes_every_fault_has_its_caret() {
    assert_snapshot!(error(FAULTY), @r#"
    error: `gate_mode` cannot be "hiden"
      --> moe.yml:2:12
    2 | gate_mode: hiden
      |            ^^^^^ did you mean `hidden`?
      hint: it can be `hidden`, `hidden_avg`, `hidden_last`, `cheap_embed`, `random`, `uniform_random`, `router_input`, `calibrated`, `self_calibrated`, `phatgoose`
    error: `dtype` cannot be "int4"
      --> moe.yml:3:8
    3 | dtype: int4
      |        ^^^^
      hint: it can be `bfloat16`, `float16`, `float32`
    error: `experts_per_token` is 0, so no token would reach an expert
      --> moe.yml:4:20
    4 | experts_per_token: 0
      |                    ^
      hint: 1 or more; 2 is usual
    error: unknown key `positve_prompts`
      --> moe.yml:7:5
    7 |     positve_prompts: [x]
      |     ^^^^^^^^^^^^^^^ did you mean `positive_prompts`?
    error: `noise_scale` is "-1", expected a standard deviation, 0 or above
      --> moe.yml:8:18
    8 |     noise_scale: -1
      |                  ^^
      hint: the noise is as often below 0 as above; 0, or no `noise_scale`, adds none
    error: expert 1 has no `source_model`
      --> moe.yml:9:5
    9 |   - positive_prompts: [y, ~]
      |     ^^^^^^^^^^^^^^^^ add `source_model: org/name`
    error: prompt 2 of `positive_prompts` is null
      --> moe.yml:9:27
    9 |   - positive_prompts: [y, ~]
      |                           ^
      hint: write its text, or put quotes around it if this word is meant
    error: `layers` has "3-1" in it, which ends before it begins
      --> moe.yml:11:14
    11 |     layers: [3-1, x]
       |              ^^^
      hint: write `1-3`
    error: `layers` has "x" in it, expected a layer such as `3`, or a range such as `0-11`
      --> moe.yml:11:19
    11 |     layers: [3-1, x]
       |                   ^
    error: `residual_scale` is "half", expected a finite number
      --> moe.yml:12:21
    12 |     residual_scale: half
       |                     ^^^^
    error: `samples` is "0", expected 1 or more
      --> moe.yml:13:22
    13 | self_text: {samples: 0, temprature: 1}
       |                      ^
    error: unknown key `temprature`
      --> moe.yml:13:25
    13 | self_text: {samples: 0, temprature: 1}
       |                         ^^^^^^^^^^ did you mean `temperature`?
    error: a shared expert is in every layer
      --> moe.yml:15:31
    15 |   - {source_model: d, layers: 3}
       |                               ^
      hint: `layers` is for routed experts
    error: the recipe has 2 shared experts
      --> moe.yml:16:19
    16 |   - source_model: e
       |                   ^ the second
      hint: no MoE family has more than one; keep one, or make the others routed experts
    error: `gate_mode` is given twice
      --> moe.yml:17:1
    17 | gate_mode: random
       | ^^^^^^^^^ the first is in line 2
      hint: keep one of the two
    "#);
}

#[test]
fn a_fault_of_the_syntax_stays_alone() {
    assert_snapshot!(error("base_model: a\ngate_mode: hiden\nexperts: [\n"), @"
    error: a bracket is opened here and never closed
      --> moe.yml:3:10
    3 | experts: [
      |          ^
      hint: close it with `]` or `}`
    ");
}

#[test]
fn rules_between_values_are_all_checked() {
    let recipe = recipe(&with(
        "gate_mode: hidden\nexperts_per_token: 3\nshared_experts: [{source_model: d}, {source_model: e}]",
    ));
    let error = check::check(&recipe, &check::CheckOptions::default()).unwrap_err();
    let messages: Vec<_> =
        std::iter::once(&error).chain(&error.parts().further).map(|e| e.parts().message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "expert 0 has no positive prompts",
            "expert 1 has no positive prompts",
            "`experts_per_token` is 3, but there are only 2 experts",
            "the recipe has 2 shared experts"
        ]
    );
}

#[test]
fn what_follows_from_a_fault_is_none_of_its_own() {
    // Without the slip there would be prompts, and other ones.
    let text = "base_model: a\ngate_mode: hidden\nexperts:\n  - source_model: b\n    positve_prompts: [x]\n  - source_model: c\n    positive_prompts: [x]\n";
    assert_eq!(error(text).matches("error:").count(), 1, "{}", error(text));
    // One unreadable expert says nothing about the number of experts.
    let text = "base_model: a\nexperts:\n  - b\n  - source_model: c\nexperts_per_token: 2\n";
    assert_eq!(error(text).matches("error:").count(), 1, "{}", error(text));
}

#[test]
fn a_million_faults_are_counted_and_twenty_shown() {
    let keys: String = (0..100_000).map(|i| format!("kkkkk{i}: v\n")).collect();
    let start = std::time::Instant::now();
    let text = error(&with(&keys));
    assert_eq!(text.matches("error: unknown key").count(), 20);
    assert!(text.ends_with("error: moe.yml has 99980 more errors"), "{text}");
    assert!(start.elapsed().as_secs() < 10);
}
