//! No modules use each other in a circle, at any level: neither two files of a folder, nor two folders through what is in
//! them. A parent and its children count as one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
};

use crate::tidy::{code, crates, sources};

/// The names on the way to a module: `["model", "config"]`.
type Module = Vec<String>;

/// A path in the code, and whether it is exported again under its last name.
struct Named {
    path: Vec<String>,
    exported: bool,
}

/// Every path that a file names: those of its `use` declarations, and those that begin with `crate` or `super` elsewhere.
fn named(text: &str) -> Vec<Named> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(Declaration { start, end, exported, paths }) = next_use(rest) {
        found.extend(plain_paths(&rest[..start]));
        found.extend(tree(paths).into_iter().map(|path| Named { path, exported }));
        rest = &rest[end..];
    }
    found.extend(plain_paths(rest));
    found
}

/// A `use` declaration in a text.
struct Declaration<'a> {
    start: usize,
    end: usize,
    exported: bool,
    paths: &'a str,
}

/// The next `use` declaration. Lines of messages may begin with the word, too.
fn next_use(text: &str) -> Option<Declaration<'_>> {
    let of_path = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_:{},*".contains(c);
    text.match_indices("use ").find_map(|(at, word)| {
        let start = text[..at].rfind('\n').map_or(0, |line| line + 1);
        let before = text[start..at].trim();
        let end = at + text[at..].find(';')?;
        let paths = &text[at + word.len()..end];
        let is_declaration =
            before.is_empty() || before == "pub" || before.starts_with("pub(") && before.ends_with(')');
        (is_declaration && paths.chars().all(of_path)).then_some(Declaration {
            start,
            end,
            exported: !before.is_empty(),
            paths,
        })
    })
}

/// The paths of a tree such as `a::{b, c::{self, d}}`.
fn tree(text: &str) -> Vec<Vec<String>> {
    let text = text.trim();
    let Some(open) = text.find('{') else {
        let path = text.split(" as ").next().unwrap_or(text);
        return vec![path.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()];
    };
    let inside = &text[open + 1..text.rfind('}').unwrap_or(text.len())];
    let before: Vec<String> =
        text[..open].split("::").map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()).collect();
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(tree).map(|path| [before.clone(), path].concat()).collect()
}

/// The paths in plain code that begin with `crate` or `super`.
fn plain_paths(text: &str) -> Vec<Named> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in text.match_indices(root) {
            // Not `a_crate::`, and of `super::super::` only the whole.
            if text[..at].ends_with(|c: char| is_name(c) || c == ':') {
                continue;
            }
            let end = text[at..].find(|c: char| !is_name(c) && c != ':').map_or(text.len(), |end| at + end);
            let path = text[at..end].split("::").map(str::to_owned).filter(|name| !name.is_empty()).collect();
            found.push(Named { path, exported: false });
        }
    }
    found
}

/// The modules of a crate and what they name.
struct Crate {
    named: BTreeMap<Module, Vec<Named>>,
    /// What a module exports from elsewhere, by the module and the name.
    exported: HashMap<(Module, String), Module>,
}

impl Crate {
    fn read(src: &Path) -> Self {
        let mut all = Self { named: BTreeMap::new(), exported: HashMap::new() };
        for path in sources(src) {
            let inside = path.strip_prefix(src).unwrap().with_extension("");
            let mut module: Module = inside.iter().map(|name| name.to_string_lossy().into_owned()).collect();
            if module.last().is_some_and(|name| name == "mod") || module == ["lib"] || module == ["main"] {
                module.pop();
            }
            if module.iter().all(|name| name != "tests") {
                let text = fs::read_to_string(&path).unwrap();
                let text: String = code(&text).map(|(_, line)| format!("{line}\n")).collect();
                all.named.insert(module, named(&text));
            }
        }
        for (module, named) in &all.named {
            for Named { path, .. } in named.iter().filter(|named| named.exported) {
                if let (Some(name), Some(path)) = (path.last(), all.absolute(module, path)) {
                    all.exported.insert((module.clone(), name.clone()), path);
                }
            }
        }
        all
    }

    /// A path from the crate's root; `None` if it leads to another crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let child = || [&module[..], &path[..1]].concat();
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (module.clone(), &path[1..]),
            "super" => (module.clone(), path),
            _ if self.named.contains_key(&child()) => (module.clone(), path),
            _ => return None,
        };
        while rest.first().is_some_and(|name| name == "super") {
            at.pop();
            rest = &rest[1..];
        }
        at.extend_from_slice(rest);
        Some(at)
    }

    /// The module that a path leads to, through what modules export from elsewhere.
    fn module_of(&self, path: &[String], depth: usize) -> Module {
        let len = (0..=path.len()).rev().find(|len| self.named.contains_key(&path[..*len])).unwrap_or(0);
        let module = path[..len].to_vec();
        let Some(name) = path.get(len).filter(|_| depth < 8) else { return module };
        match self.exported.get(&(module.clone(), name.clone())) {
            Some(elsewhere) => self.module_of(&[&elsewhere[..], &path[len + 1..]].concat(), depth + 1),
            None => module,
        }
    }

    /// Circles of siblings, each with the path of their parent.
    fn circles(&self) -> Vec<String> {
        let mut siblings: BTreeMap<Module, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
        for (module, named) in &self.named {
            for path in named.iter().filter_map(|named| self.absolute(module, &named.path)) {
                let other = self.module_of(&path, 0);
                let common = module.iter().zip(&other).take_while(|(a, b)| a == b).count();
                if let (Some(from), Some(to)) = (module.get(common), other.get(common)) {
                    siblings.entry(module[..common].to_vec()).or_default().entry(from).or_default().insert(to.clone());
                }
            }
        }
        let circle = |(parent, uses): (&Module, &BTreeMap<&str, BTreeSet<String>>)| {
            let found = circle(uses)?;
            Some(format!("{} in `{}`", found.join(", "), parent.join("::")))
        };
        siblings.iter().filter_map(circle).collect()
    }
}

/// Those that can be reached from themselves.
fn circle(uses: &BTreeMap<&str, BTreeSet<String>>) -> Option<Vec<String>> {
    let reaches_itself = |from: &&&str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![**from]);
        while let Some(module) = next.pop() {
            next.extend(uses.get(module).into_iter().flatten().map(String::as_str).filter(|to| seen.insert(*to)));
        }
        seen.contains(**from)
    };
    let found: Vec<String> = uses.keys().filter(reaches_itself).map(|name| (*name).to_owned()).collect();
    (!found.is_empty()).then_some(found)
}

#[test]
fn paths_are_found() {
    let text = "pub use a::{b, c::{self, d as e}};\nuse crate::f;\nfn g(h: super::super::i::J) -> crate::k::L {}";
    let found: Vec<(String, bool)> = named(text).iter().map(|named| (named.path.join("::"), named.exported)).collect();
    let expected = [("a::b", true), ("a::c::self", true), ("a::c::d", true), ("crate::f", false)];
    let later = [("crate::k::L", false), ("super::super::i::J", false)];
    let expected: Vec<(String, bool)> = expected.into_iter().chain(later).map(|(p, e)| (p.to_owned(), e)).collect();
    assert_eq!(found, expected);
}

#[test]
fn circles_are_found_below_the_top_and_through_exports() {
    let module = |path: &str| -> Module { path.split("::").map(str::to_owned).collect() };
    let files = [
        ("a", "mod b; mod c;\npub use b::B;"),
        ("a::b", "use super::c::C;"),
        ("a::c", "fn f(_: super::B) {}"),
        ("d", "use crate::a::B;"),
    ];
    let mut all = Crate { named: BTreeMap::new(), exported: HashMap::new() };
    all.named.insert(Vec::new(), named("mod a; mod d;"));
    all.named.extend(files.iter().map(|(path, text)| (module(path), named(text))));
    all.exported.insert((module("a"), "B".to_owned()), module("a::b::B"));
    assert_eq!(all.circles(), ["b, c in `a`"]);
}

#[test]
fn modules_form_no_circles() {
    for entry in fs::read_dir(crates()).unwrap() {
        let dir = entry.unwrap().path();
        let circles = Crate::read(&dir.join("src")).circles();
        assert!(circles.is_empty(), "{}: these use each other: {circles:#?}", dir.display());
    }
}
