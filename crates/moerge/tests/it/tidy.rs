//! Rules about the source text itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The Rust files below `dir`, tests excluded.
pub fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_some_and(|n| n != "tests.rs") {
            files.push(path);
        }
    }
    files
}

/// Lines of code outside of comments and of the test module that ends a file.
pub fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end].lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Every line of `dir` that `is_wrong`, as `file:line: text`.
fn offenders(dir: &Path, is_wrong: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for path in sources(dir) {
        let text = fs::read_to_string(&path).unwrap();
        let wrong = code(&text).filter(|(_, line)| is_wrong(line));
        found.extend(wrong.map(|(n, line)| format!("{}:{}: {}", path.display(), n + 1, line.trim())));
    }
    found
}

/// The folder of all crates.
pub fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Whether a string literal of the line holds a word that looks like `--flag`, or tells the user to run a command of moerge.
fn names_a_flag(line: &str) -> bool {
    let literals: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
    let commands = ["merge", "plan", "pull", "push", "eval", "chat", "serve", "export", "verify", "inspect", "route"];
    let names_command = |text: &str| commands.iter().any(|command| text.contains(&format!("moerge {command}")));
    if literals.iter().any(|text| !text.contains("<!--") && names_command(text)) {
        return true;
    }
    literals.into_iter().flat_map(|text| text.split_whitespace()).any(|word| {
        let word = word.trim_start_matches(['`', '(']);
        word.strip_prefix("--").is_some_and(|flag| flag.starts_with(|c: char| c.is_ascii_lowercase()))
    })
}

#[test]
fn the_library_names_no_flags_of_the_command_line() {
    assert!(names_a_flag(r#".hint("use `--quant q4_k`")"#) && !names_a_flag(r#""models--org--name" // --x"#));
    for library in ["moerge-checkpoint", "moerge-core", "moerge-infer", "moerge-hub", "moerge-objects", "moerge-lib"] {
        let found = offenders(&crates().join(library).join("src"), names_a_flag);
        assert!(found.is_empty(), "hints about flags belong into crates/moerge/src/hints.rs:\n{}", found.join("\n"));
    }
}

#[test]
fn nothing_prints_with_macros_that_panic() {
    let prints = |line: &str| line.contains("println!(") || line.contains("print!(");
    for name in
        ["moerge", "moerge-checkpoint", "moerge-core", "moerge-infer", "moerge-hub", "moerge-objects", "moerge-lib"]
    {
        let found = offenders(&crates().join(name).join("src"), prints);
        assert!(found.is_empty(), "these panic when the output is full; use console.rs:\n{}", found.join("\n"));
    }
}

/// A closure that is not inlined into `vectorised` is compiled for any x86-64 instead of for AVX2.
#[test]
fn closures_of_vectorised_are_inlined() {
    let mut found = Vec::new();
    for path in ["moerge-core", "moerge-infer"].iter().flat_map(|name| sources(&crates().join(name).join("src"))) {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = code(&text).collect();
        for pair in lines.windows(2).filter(|pair| pair[0].1.contains("vectorised(")) {
            if pair[1].1.trim() != "#[inline(always)]" {
                found.push(format!("{}:{}", path.display(), pair[0].0 + 1));
            }
        }
    }
    assert!(found.is_empty(), "`#[inline(always)]` is missing:\n{}", found.join("\n"));
}
