//! Rules about the source text itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The Rust files below `dir`, tests excluded.
fn sources(dir: &Path) -> Vec<PathBuf> {
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
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).enumerate();
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
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

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Whether a string literal of the line holds a word that looks like `--flag`, or a command of moerge.
fn names_a_flag(line: &str) -> bool {
    let literals = line.split('"').skip(1).step_by(2);
    literals.flat_map(|text| text.split_whitespace()).any(|word| {
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

/// The top-level modules of the crate in `src`, each with those that it names in a `use` or a path.
fn modules(src: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources(src) {
        let inside = path.strip_prefix(src).unwrap().components().next().unwrap().as_os_str().to_string_lossy();
        let module = inside.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let text: String = code(&text).map(|(_, line)| line.trim()).collect();
        modules.entry(module).or_default().extend(text.split("crate::").skip(1).flat_map(first_names));
    }
    modules
}

/// The first names of the paths that follow `crate::`: one, or those of a group.
fn first_names(path: &str) -> Vec<String> {
    let name =
        |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

/// A module that each other of its circle can be reached from, itself included.
fn circle(modules: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let reach = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = next.pop() {
            let used = modules.get(&module).into_iter().flatten().filter(|m| modules.contains_key(*m) && **m != module);
            next.extend(used.filter(|m| seen.insert((*m).clone())).cloned());
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = modules.keys().map(|m| (m, reach(m))).collect();
    let in_circle: Vec<String> = modules.keys().filter(|m| reached[m].contains(*m)).cloned().collect();
    (!in_circle.is_empty()).then_some(in_circle)
}

#[test]
fn modules_form_no_circles() {
    assert_eq!(first_names("{a::{b, c}, d, error::Result};"), ["a", "d", "error"]);
    let graph = |edges: &[(&str, &str)]| {
        let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            modules.entry((*to).to_owned()).or_default();
            modules.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        circle(&modules)
    };
    assert_eq!(graph(&[("a", "b"), ("b", "c"), ("a", "a")]), None);
    assert_eq!(graph(&[("a", "b"), ("b", "c"), ("c", "b")]).unwrap(), ["b", "c"]);
    for name in
        ["moerge", "moerge-checkpoint", "moerge-core", "moerge-infer", "moerge-hub", "moerge-objects", "moerge-lib"]
    {
        let found = circle(&modules(&crates().join(name).join("src")));
        assert_eq!(found, None, "modules of {name} use each other in a circle");
    }
}
