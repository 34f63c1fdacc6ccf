//! Prompt files, and recipes that name them.

use std::{fs, path::Path};

use arbtest::arbtest;
use insta::assert_snapshot;

use super::*;
use crate::{recipe::Recipe, rendered::rendered};

fn error(text: &str) -> String {
    rendered(&parse(Path::new("code.txt"), text).expect_err("the prompts were accepted"))
}

#[test]
fn one_prompt_a_line() {
    let prompts = parse(Path::new("p"), "\n  def main():  \r\n\r\nπ = 3 # not a comment\n- a").unwrap();
    assert_eq!(prompts, ["def main():", "π = 3 # not a comment", "- a"]);
}

#[test]
fn json_lines_by_their_first_character() {
    let prompts = parse(Path::new("p"), "\n {\"id\": [1], \"text\": \" a\\nb \"}\n\n{\"text\": \"c\"}\r\n").unwrap();
    assert_eq!(prompts, [" a\nb ", "c"]);
}

#[test]
fn json_lines_by_the_files_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.JSONL");
    fs::write(&path, "\u{feff}{\"text\": \"a\"}").unwrap();
    assert_eq!(load(&path).unwrap(), ["a"]);
    fs::write(&path, "a").unwrap();
    assert!(load(&path).is_err());
}

#[test]
fn no_prompts() {
    assert_snapshot!(error("\n \n"), @"
    error: code.txt holds no prompts
      hint: write one prompt per line
    ");
}

#[test]
fn not_an_object() {
    assert_snapshot!(error("{\"text\": \"a\"}\n[\"text\"]\n"), @r#"
    error: a line that is not a JSON object in code.txt
      --> code.txt:2:1
    2 | ["text"]
      | ^^^^^^^^
      hint: each line is an object: {"text": "..."}
    "#);
}

#[test]
fn not_json() {
    assert_snapshot!(error("{\"text\": \"a\"}\n  {\"text\": a}\n"), @r#"
    error: a line that cannot be read (expected value) in code.txt
      --> code.txt:2:3
    2 |   {"text": a}
      |   ^^^^^^^^^^^
      hint: each line is an object: {"text": "..."}
    "#);
}

#[test]
fn an_open_object() {
    assert_snapshot!(error("{\"text\": \"a\"\n"), @r#"
    error: a line that cannot be read (it ends in the middle of an object) in code.txt
      --> code.txt:1:1
    1 | {"text": "a"
      | ^^^^^^^^^^^^
      hint: each line is an object: {"text": "..."}
    "#);
}

#[test]
fn no_text() {
    assert_snapshot!(error("{\"prompt\": \"a\"}"), @r#"
    error: a line without `text` in code.txt
      --> code.txt:1:1
    1 | {"prompt": "a"}
      | ^^^^^^^^^^^^^^^
      hint: each line is an object: {"text": "..."}
    "#);
}

#[test]
fn text_is_a_number() {
    assert_snapshot!(error("{\"text\": 3}"), @r#"
    error: a line that cannot be read (expected a string, found the number 3) in code.txt
      --> code.txt:1:1
    1 | {"text": 3}
      | ^^^^^^^^^^^
      hint: each line is an object: {"text": "..."}
    "#);
}

#[test]
fn text_is_empty() {
    assert_snapshot!(error("{\"text\": \" \"}"), @r#"
    error: an empty `text` in code.txt
      --> code.txt:1:1
    1 | {"text": " "}
      | ^^^^^^^^^^^^^
      hint: each line is an object: {"text": "..."}
    "#);
}

#[test]
fn more_after_the_object() {
    assert_snapshot!(error("{\"text\": \"a\"} {}"), @r#"
    error: a line that cannot be read (trailing characters) in code.txt
      --> code.txt:1:1
    1 | {"text": "a"} {}
      | ^^^^^^^^^^^^^^^^
      hint: each line is an object: {"text": "..."}
    "#);
}

#[test]
fn deep_nesting() {
    assert_snapshot!(error(&format!("{{\"a\": {}", "[".repeat(1000))).lines().next().unwrap(), @"error: a line that cannot be read (it ends in the middle of a list) in code.txt");
}

#[test]
fn too_many_prompts() {
    let error = parse(Path::new("p"), &"a\n".repeat(MAX_LINES + 1)).unwrap_err();
    assert_eq!(error.parts().message, "p has more than 1000000 prompts");
}

#[test]
fn any_text_is_read_or_refused() {
    arbtest(|u| {
        let (json, text): (bool, &str) = (u.arbitrary()?, u.arbitrary()?);
        match parse(Path::new(if json { "p.jsonl" } else { "p" }), text) {
            Ok(prompts) => assert!(prompts.iter().all(|p| !p.trim().is_empty())),
            Err(error) => drop(rendered(&error)),
        }
        Ok(())
    });
}

/// Writes files into a folder, and loads the recipe among them, named from there.
fn load_recipe(folder: &Path, files: &[(&str, &[u8])]) -> Result<Recipe> {
    for (name, bytes) in files {
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
    Recipe::load(&folder.join("moe.yml"))
}

const RECIPE: &[u8] = b"\
base_model: a
experts:
  - source_model: b
    positive_prompts: [inline]
    positive_prompts_file: prompts/code.txt
    negative_prompts_file: no.jsonl
shared_experts:
  - source_model: c
    positive_prompts_file: prompts/code.txt
experts_per_token: 1
";

#[test]
fn prompt_files_come_after_the_prompts_of_the_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let files: [(&str, &[u8]); 3] =
        [("moe.yml", RECIPE), ("prompts/code.txt", b"one\ntwo"), ("no.jsonl", b"{\"text\": \"three\"}")];
    let recipe = load_recipe(folder.path(), &files).unwrap();
    assert_eq!(recipe.experts[0].positive_prompts, ["inline", "one", "two"]);
    assert_eq!(recipe.experts[0].negative_prompts, ["three"]);
    assert_eq!(recipe.shared_experts[0].positive_prompts, ["one", "two"]);
    assert_eq!(recipe.name, folder.path().join("moe.yml").display().to_string());
}

#[test]
fn a_prompt_file_may_be_named_from_the_current_folder() {
    let folder = tempfile::tempdir().unwrap();
    let text = b"base_model: a\nexperts: [{source_model: b, positive_prompts_file: Cargo.toml}]\n";
    let recipe = load_recipe(folder.path(), &[("moe.yml", text)]).unwrap();
    assert_eq!(recipe.experts[0].positive_prompts[0], "[package]");
}

/// The error, with the temporary folder called `<dir>`.
fn load_error(files: &[(&str, &[u8])]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = load_recipe(folder.path(), files).expect_err("the recipe was accepted");
    rendered(&error).replace(&folder.path().display().to_string(), "<dir>")
}

#[test]
fn no_recipe() {
    assert_snapshot!(load_error(&[]), @"error: cannot open <dir>/moe.yml: No such file or directory (os error 2)");
}

#[test]
fn a_recipe_that_is_a_folder() {
    assert_snapshot!(load_error(&[("moe.yml/x", b"")]), @"error: <dir>/moe.yml is a folder, expected a text file");
}

#[test]
fn a_recipe_in_latin_1() {
    assert_snapshot!(load_error(&[("moe.yml", b"base_model: a\n# caf\xe9\n")]), @"
    error: <dir>/moe.yml is not UTF-8 text: byte 19 (line 2) is 0xe9
      hint: save it as UTF-8
    ");
}

#[test]
fn a_recipe_in_utf_16() {
    assert_snapshot!(load_error(&[("moe.yml", b"\xff\xfeb\0a\0")]), @"
    error: <dir>/moe.yml is not UTF-8 text: byte 0 (line 1) is 0xff
      hint: it is UTF-16; save it as UTF-8
    ");
}

#[test]
fn no_prompt_file() {
    assert_snapshot!(load_error(&[("moe.yml", RECIPE)]), @"
    error: no prompt file prompts/code.txt
      --> <dir>/moe.yml:5:28
    5 |     positive_prompts_file: prompts/code.txt
      |                            ^^^^^^^^^^^^^^^^ not found
      looked for: <dir>/prompts/code.txt
      looked for: prompts/code.txt (from the current folder)
      hint: paths are relative to the recipe's folder
    error: no prompt file no.jsonl
      --> <dir>/moe.yml:6:28
    6 |     negative_prompts_file: no.jsonl
      |                            ^^^^^^^^ not found
      looked for: <dir>/no.jsonl
      looked for: no.jsonl (from the current folder)
      hint: paths are relative to the recipe's folder
    error: no prompt file prompts/code.txt
      --> <dir>/moe.yml:9:28
    9 |     positive_prompts_file: prompts/code.txt
      |                            ^^^^^^^^^^^^^^^^ not found
      looked for: <dir>/prompts/code.txt
      looked for: prompts/code.txt (from the current folder)
      hint: paths are relative to the recipe's folder
    ");
}

#[test]
fn a_prompt_file_that_is_a_folder() {
    assert_snapshot!(load_error(&[("moe.yml", RECIPE), ("prompts/code.txt/x", b""), ("no.jsonl", b"{\"text\": \"a\"}")]), @"
    error: <dir>/prompts/code.txt is a folder, expected a text file
      --> <dir>/moe.yml:5:28
    5 |     positive_prompts_file: prompts/code.txt
      |                            ^^^^^^^^^^^^^^^^
    error: <dir>/prompts/code.txt is a folder, expected a text file
      --> <dir>/moe.yml:9:28
    9 |     positive_prompts_file: prompts/code.txt
      |                            ^^^^^^^^^^^^^^^^
    ");
}

#[test]
fn an_empty_prompt_file() {
    assert_snapshot!(load_error(&[("moe.yml", RECIPE), ("prompts/code.txt", b""), ("no.jsonl", b"{\"text\": \"a\"}")]), @"
    error: <dir>/prompts/code.txt holds no prompts
      --> <dir>/moe.yml:5:28
    5 |     positive_prompts_file: prompts/code.txt
      |                            ^^^^^^^^^^^^^^^^
      hint: write one prompt per line
    error: <dir>/prompts/code.txt holds no prompts
      --> <dir>/moe.yml:9:28
    9 |     positive_prompts_file: prompts/code.txt
      |                            ^^^^^^^^^^^^^^^^
      hint: write one prompt per line
    ");
}

#[test]
fn a_broken_prompt_file() {
    assert_snapshot!(load_error(&[("moe.yml", RECIPE), ("prompts/code.txt", b"a"), ("no.jsonl", b"{}")]), @r#"
    error: a line without `text` in <dir>/no.jsonl
      --> <dir>/no.jsonl:1:1
    1 | {}
      | ^^
      hint: each line is an object: {"text": "..."}
    "#);
}

#[test]
fn a_file_that_is_too_large() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("moe.yml");
    fs::File::create(&path).unwrap().set_len((16 << 20) + 1).unwrap();
    let error = Recipe::load(&path).unwrap_err();
    assert_eq!(error.parts().message, format!("{} is larger than 16 MiB", path.display()));
}

#[cfg(unix)]
#[test]
fn a_device_is_not_read() {
    let error = Recipe::load(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(error.parts().message, "/dev/zero is not a file, expected a text file");
}

/// Attack A7: `/proc/kmsg` is a regular file without length, and reading it waits for the next message of the kernel.
#[cfg(target_os = "linux")]
#[test]
fn a_file_of_proc_is_not_waited_for() {
    for file in ["/proc/kmsg", "/proc/self/maps"] {
        let text = format!("base_model: a\nexperts: [{{source_model: b, positive_prompts_file: {file}}}]\n");
        let error = load_error(&[("moe.yml", text.as_bytes())]);
        assert!(error.contains(&format!("{file} holds no prompts")), "{error}");
    }
    for file in ["/dev/zero", "/dev/stdin", "/proc/self/fd"] {
        let text = format!("base_model: a\nexperts: [{{source_model: b, positive_prompts_file: {file}}}]\n");
        let error = load_error(&[("moe.yml", text.as_bytes())]);
        assert!(error.contains("expected a text file") || error.contains("holds no prompts"), "{error}");
    }
}
