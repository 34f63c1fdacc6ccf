//! Text that is not YAML, and YAML that is not a recipe.

use insta::assert_snapshot;

use super::*;

#[test]
fn several_documents() {
    assert_snapshot!(error(&format!("{}---\n{}", with(""), with(""))), @"
    error: the file holds several YAML documents, a recipe is one
      --> moe.yml:7:1
    7 | base_model: a
      | ^^^^^^^^^^^^^ the second
      hint: put each recipe into a file of its own
    ");
}

#[test]
fn a_key_that_is_a_list() {
    assert_snapshot!(error("? [a, b]\n: c\n"), @"
    error: a key is a list, expected a name
      --> moe.yml:1:3
    1 | ? [a, b]
      |   ^^^^^^ keys are names like `base_model`
    ");
}

#[test]
fn a_tag() {
    assert_snapshot!(error("base_model: !include other.yml\nexperts: []\n"), @"
    error: the tag `!include` means nothing here
      --> moe.yml:1:13
    1 | base_model: !include other.yml
      |             ^^^^^^^^
      hint: a string that begins with `!` needs quotes
    ");
}

#[test]
fn a_python_tag() {
    assert_snapshot!(error("base_model: !!python/object:os.system {}\n"), @"
    error: the tag `!!python/object:os.system` means nothing here
      --> moe.yml:1:13
    1 | base_model: !!python/object:os.system {}
      |             ^^^^^^^^^^^^^^^^^^^^^^^^^
      hint: a string that begins with `!` needs quotes
    ");
}

#[test]
fn a_tab() {
    assert_snapshot!(error("base_model: a\nexperts:\n\t- source_model: b\n"), @"
    error: a tab in the indentation
      --> moe.yml:3:2
    3 | →- source_model: b
      |  ^
      hint: YAML indents with spaces; put spaces in the tab's place
    ");
}

#[test]
fn an_open_quote() {
    assert_snapshot!(error("base_model: \"a\nexperts: []\n"), @r#"
    error: a quote is opened here and never closed
      --> moe.yml:1:13
    1 | base_model: "a
      |             ^
      hint: a string with a quote in it: 'it''s' or "say \"hi\""
    "#);
}

#[test]
fn an_open_bracket() {
    assert_snapshot!(error("base_model: a\nexperts: [{source_model: b}\ngate_mode: hidden\n"), @"
    error: a `:` where no key can be
      --> moe.yml:3:10
    3 | gate_mode: hidden
      |          ^
      hint: is a `]` or `}` missing in a line above?
    ");
}

#[test]
fn the_wrong_bracket() {
    assert_snapshot!(error("base_model: a\nexperts: [b}\n"), @"
    error: this bracket closes none that is open
      --> moe.yml:2:10
    2 | experts: [b}
      |          ^
      hint: `[` closes with `]`, `{` with `}`
    ");
}

#[test]
fn a_missing_comma() {
    assert_snapshot!(error("base_model: a\nexperts: [\"b\" \"c\"]\n"), @r#"
    error: there is more after the closing quote
      --> moe.yml:2:15
    2 | experts: ["b" "c"]
      |               ^
      hint: is a comma missing? In single quotes a quote is written twice: 'it''s'
    "#);
}

#[test]
fn a_second_colon() {
    assert_snapshot!(error("base_model: a: b\nexperts: []\n"), @"
    error: a `:` where no key can be
      --> moe.yml:1:14
    1 | base_model: a: b
      |              ^
      hint: a string with `: ` in it needs quotes; otherwise compare the indentation with the line above
    ");
}

#[test]
fn a_key_without_colon() {
    assert_snapshot!(error("base_model: a\nexperts\ngate_mode: hidden\n"), @"
    error: a line that is neither `key: value` nor part of the value above
      --> moe.yml:2:1
    2 | experts
      | ^
      hint: is a `:` or a `- ` missing?
    ");
}

#[test]
fn a_key_out_of_line() {
    assert_snapshot!(error("base_model: a\n experts: []\n"), @"
    error: a `:` where no key can be
      --> moe.yml:2:9
    2 |  experts: []
      |         ^
      hint: a string with `: ` in it needs quotes; otherwise compare the indentation with the line above
    ");
}

#[test]
fn an_expert_out_of_line() {
    assert_snapshot!(error("base_model: a\nexperts:\n  - source_model: b\n - source_model: c\n"), @"
    error: the indentation does not fit the lines above
      --> moe.yml:4:2
    4 |  - source_model: c
      |  ^
      hint: keys of one mapping begin in the same column
    ");
}

#[test]
fn an_alias_without_anchor() {
    assert_snapshot!(error("base_model: *a\nexperts: []\n"), @"
    error: no `&name` before this alias
      --> moe.yml:1:13
    1 | base_model: *a
      |             ^
      hint: a string that begins with `*` needs quotes
    ");
}

#[test]
fn an_alias_inside_itself() {
    assert_snapshot!(error("base_model: a\nexperts: &e [*e]\n"), @"
    error: an alias cannot be inside of what it names
      --> moe.yml:2:14
    2 | experts: &e [*e]
      |              ^^
    ");
}

#[test]
fn a_character_that_begins_nothing() {
    assert_snapshot!(error("base_model: @org/a\nexperts: []\n"), @"
    error: a string cannot begin with this character
      --> moe.yml:1:13
    1 | base_model: @org/a
      |             ^
      hint: put the string in quotes
    ");
}

#[test]
fn text_after_a_quote() {
    assert_snapshot!(error("base_model: 'a'b'\nexperts: []\n"), @"
    error: there is more after the closing quote
      --> moe.yml:1:16
    1 | base_model: 'a'b'
      |                ^
      hint: is a comma missing? In single quotes a quote is written twice: 'it''s'
    ");
}

#[test]
fn a_backslash() {
    assert_snapshot!(error("base_model: \"C:\\models\"\nexperts: []\n"), @r#"
    error: an escape that YAML does not know
      --> moe.yml:1:13
    1 | base_model: "C:\models"
      |             ^
      hint: in double quotes a backslash is written \\; single quotes keep it
    "#);
}

#[test]
fn merging_a_text() {
    assert_snapshot!(error("<<: a\nbase_model: b\n"), @"
    error: `<<` is a single value, expected a mapping
      --> moe.yml:1:5
    1 | <<: a
      |     ^ name a mapping here: `*defaults`
    ");
}

#[test]
fn a_directive() {
    assert_snapshot!(error("%YAML 3.0\n---\na: b\n"), @"
    error: this is not valid YAML
      --> moe.yml:1:1
    1 | %YAML 3.0
      | ^ unsupported YAML major version
    ");
}
