//! Prompts in the forms that public recipes have, and what the check says of them.

use super::*;

fn prompts(lines: &str) -> Vec<String> {
    recipe(&expert(lines)).experts[0].positive_prompts.clone()
}

fn checked(mode: &str, first: &str, second: &str) -> String {
    let text = format!(
        "base_model: a\ngate_mode: {mode}\nexperts:\n  - {{source_model: b{first}}}\n  - {{source_model: c{second}}}\n"
    );
    match check::check(&recipe(&text), &check::CheckOptions::default()) {
        Ok(warnings) => warnings.join("\n"),
        Err(error) => rendered(&error),
    }
}

#[test]
fn fault_recipes_one_string_is_a_list_of_one() {
    assert_eq!(prompts("positive_prompts: write code"), ["write code"]);
    assert_eq!(prompts("positive_prompts: |\n  two\n  lines"), ["two\nlines\n"]);
    assert_eq!(prompts("positive_prompts: 42"), ["42"]);
}

#[test]
fn no_value_is_no_prompt() {
    for none in ["", " ~", " ''", " []", " \"  \""] {
        assert!(prompts(&format!("positive_prompts:{none}")).is_empty(), "{none}");
    }
}

#[test]
fn fault_recipes_an_empty_prompt_in_a_list_is_a_prompt() {
    assert_eq!(prompts("positive_prompts: ['']"), [""]);
    assert_eq!(prompts("positive_prompts: [a, \"\", b]"), ["a", "", "b"]);
    let warning = "expert 1 has an empty prompt; it stands for the bos token alone, as in mergekit";
    assert_eq!(checked("hidden", ", positive_prompts: [a]", ", positive_prompts: ['']"), warning);
    let spaces = "expert 1 has a prompt of spaces only; they are tokens like others";
    assert_eq!(checked("hidden", ", positive_prompts: [a]", ", positive_prompts: ['  ']"), spaces);
    let both = "experts 0, 1 have an empty prompt; it stands for the bos token alone, as in mergekit";
    assert_eq!(checked("hidden", ", positive_prompts: [a, '']", ", positive_prompts: ['']"), both);
    let shared = "base_model: a\ngate_mode: hidden\narchitecture: qwen\nexperts:\n  - {source_model: b, positive_prompts: [x]}\n  \
                  - {source_model: c, positive_prompts: [y]}\nshared_experts:\n  - {source_model: d, positive_prompts: ['']}\n";
    let warnings = check::check(&recipe(shared), &check::CheckOptions::default()).unwrap();
    assert_eq!(warnings, ["the shared expert has an empty prompt; it stands for the bos token alone, as in mergekit"]);
    let warning = "expert 1 has an empty prompt; `gate_mode: calibrated` ignores it";
    assert_eq!(checked("calibrated", ", positive_prompts: [a]", ", positive_prompts: [b, '']"), warning);
}

#[test]
fn text_is_needed_where_routers_are_fitted_to_text() {
    let error = checked("calibrated", ", positive_prompts: [a]", ", positive_prompts: ['']");
    assert!(error.starts_with("error: expert 1 has no positive prompts"), "{error}");
}

#[test]
fn fault_recipes_random_gates_need_no_prompts_in_any_form() {
    for mode in ["random", "uniform_random"] {
        for none in ["", ", positive_prompts: []", ", positive_prompts: ['']", ", positive_prompts: ''"] {
            assert_eq!(checked(mode, none, none), "", "{mode} {none}");
        }
        let negative = ", negative_prompts: ['']";
        assert_eq!(checked(mode, negative, negative), "");
    }
}

#[test]
fn fault_recipes_without_prompts_the_hint_names_self_calibrated_first() {
    let error = checked("hidden", ", positive_prompts: [a]", "");
    let hint = error.lines().find(|line| line.contains("hint:")).unwrap();
    assert!(hint.contains("`gate_mode: self_calibrated` needs none"), "{error}");
}

#[test]
fn an_empty_text_in_validation_is_an_error() {
    assert!(error(&expert("validation: [a, '']")).contains("text 2 of `validation` is empty"));
}
