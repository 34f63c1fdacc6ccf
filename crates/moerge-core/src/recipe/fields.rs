//! Reads mappings: checks their keys, and reads each value as the type that its key requires.

use std::{collections::HashMap, num::IntErrorKind, ops::Range};

use super::{
    foreign_keys::ForeignKeys,
    located::Located,
    source::Source,
    yaml::{Entry, Kind, Node, Scalar},
};
use crate::{
    error::{Cause, Error, Result},
    suggest::{did_you_mean, quoted, shorten},
};

/// A mapping of the recipe whose keys have been checked.
pub(super) struct Fields<'a> {
    source: &'a Source<'a>,
    what: String,
    span: Range<usize>,
    entries: HashMap<&'a str, &'a Entry>,
}

/// The value of one key.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    source: &'a Source<'a>,
    entry: &'a Entry,
}

impl<'a> Fields<'a> {
    /// Opens `node`, called `what` in messages, as a mapping with no keys but `known`, each at most once.
    pub fn open(source: &'a Source<'a>, node: &'a Node, what: impl Into<String>, known: &[&'a str]) -> Result<Self> {
        Self::open_with(source, node, what, known, ForeignKeys::default())
    }

    /// The same without a check of its keys, some of which are read elsewhere.
    pub fn any(source: &'a Source<'a>, node: &'a Node, what: impl Into<String>) -> Result<Self> {
        let what = what.into();
        let Kind::Map(list) = &node.kind else {
            return Err(source.error(
                format!("{what} is {}, expected keys with values", node.describe()),
                node.span.clone(),
                "",
            ));
        };
        let entries = list.iter().filter(|e| !e.value.is_null()).map(|e| (e.key.value.as_str(), e)).collect();
        let span = list.first().map_or(node.span.clone(), |e| e.key.span.clone());
        Ok(Self { source, what, span, entries })
    }

    /// The same, where some `foreign` keys are ignored with a warning. Keys that begin with `x-` are ignored without
    /// one: a place for what anchors name.
    ///
    /// Wrong keys are noted, and the others can be read.
    pub fn open_with(
        source: &'a Source<'a>,
        node: &'a Node,
        what: impl Into<String>,
        known: &[&'a str],
        foreign: ForeignKeys,
    ) -> Result<Self> {
        let what = what.into();
        let Kind::Map(list) = &node.kind else {
            let message = format!("{what} is {}, expected keys with values", node.describe());
            return Err(source
                .error(message, node.span.clone(), "")
                .hint(format!("write `key: value` lines; known keys: {}", quoted(known))));
        };
        let mut entries: HashMap<&str, &Entry> = HashMap::new();
        for entry in list {
            let (key, span) = (entry.key.value.as_str(), entry.key.span.clone());
            if !known.contains(&key) {
                let meant = if key.starts_with("x-") { None } else { foreign_key(source, entry, known, foreign) };
                // The fault is noted; that the key it stands for is missing is not another one.
                if let Some(meant) = meant.filter(|meant| !list.iter().any(|e| e.key.value == *meant)) {
                    entries.insert(meant, entry);
                }
            } else if let Some(first) = entries.get(key) {
                source.fault(|| {
                    let first = format!("the first is in line {}", source.line(first.key.span.start));
                    source.error(format!("`{key}` is given twice"), span, first).hint("keep one of the two")
                });
            } else {
                entries.insert(key, entry);
            }
        }
        entries.retain(|_, entry| !entry.value.is_null());
        let span = list.first().map_or(node.span.clone(), |e| e.key.span.clone());
        Ok(Self { source, what, span, entries })
    }

    /// The value of `key`, unless it is absent or null.
    pub fn get(&self, key: &str) -> Option<Field<'a>> {
        self.entries.get(key).map(|entry| Field { source: self.source, entry })
    }

    /// The value of `key` as `read` reads it. A wrong one is noted, and counts as absent.
    pub fn read<T>(&self, key: &str, read: impl FnOnce(Field<'a>) -> Result<T>) -> Option<T> {
        self.source.keep(read(self.get(key)?))
    }

    /// The value of the required `key`; `remedy` says what to add.
    pub fn required(&self, key: &str, remedy: &str) -> Result<Field<'a>> {
        self.get(key).ok_or_else(|| {
            let message = format!("{} has no `{key}`", self.what);
            self.source.error(message, self.span.clone(), remedy)
        })
    }
}

impl<'a> Field<'a> {
    /// The value of an entry of a mapping that has no fixed keys.
    pub fn of(source: &'a Source<'a>, entry: &'a Entry) -> Self {
        Self { source, entry }
    }

    /// The value as a node of the tree.
    pub fn node(&self) -> &'a Node {
        &self.entry.value
    }

    /// The key.
    pub fn key(&self) -> &'a str {
        &self.entry.key.value
    }

    /// The bytes of the value.
    pub fn span(&self) -> Range<usize> {
        self.entry.value.span.clone()
    }

    /// An error that points at the value.
    pub fn error(&self, message: &str) -> Error {
        self.source.error(message, self.span(), "")
    }

    /// An error about the value: `gate_mode` is "hiden", expected `expected`.
    pub fn wrong(&self, expected: &str) -> Error {
        let found = match &self.entry.value.kind {
            Kind::Scalar(scalar) => format!("\"{}\"", shorten(&scalar.text)),
            _ => self.entry.value.describe().to_owned(),
        };
        let message = format!("`{}` is {found}, expected {expected}", self.entry.key.value);
        self.source.error(message, self.span(), "")
    }

    /// A single value, as its text.
    pub fn text(&self) -> Result<&'a Scalar> {
        match &self.entry.value.kind {
            Kind::Scalar(scalar) => Ok(scalar),
            _ => Err(self.wrong("a single value")),
        }
    }

    /// A whole number from 0 up; `2.0` is one, as in mergekit.
    pub fn whole_number(&self) -> Result<u64> {
        let text = self.text()?.text.trim();
        text.strip_suffix(".0").unwrap_or(text).parse().map_err(|e: std::num::ParseIntError| match e.kind() {
            IntErrorKind::PosOverflow => self.wrong(&format!("at most {}", u64::MAX)),
            _ => {
                let line = format!("`{}: 2`", self.entry.key.value);
                self.wrong("a whole number, 0 or above").hint(format!("digits only, such as {line}"))
            }
        })
    }

    /// A finite number: `.inf` and `.nan` are refused.
    pub fn number(&self) -> Result<f64> {
        let number: Option<f64> = self.text()?.text.trim().parse().ok();
        number.filter(|n| n.is_finite()).ok_or_else(|| self.wrong("a finite number"))
    }

    /// A list.
    pub fn list(&self) -> Result<&'a [Node]> {
        match &self.entry.value.kind {
            Kind::List(items) => Ok(items),
            kind => {
                let hint = match kind {
                    Kind::Scalar(scalar) => format!("write `- {}` on a line of its own", shorten(&scalar.text)),
                    _ => "begin each element with `- `".to_owned(),
                };
                Err(self.wrong("a list").hint(hint))
            }
        }
    }

    /// A list of strings, or one string for a list of one. What stands in it counts as it is written: `- no` is the
    /// string "no", not a boolean. Only null is none: that is what YAML makes of a line somebody forgot to fill in.
    ///
    /// A prompt in a list may be empty: the gates are then made of the bos token alone, as in mergekit. An empty value
    /// without a list is not a prompt.
    pub fn prompts(&self) -> Result<Vec<String>> {
        match &self.entry.value.kind {
            Kind::Scalar(scalar) if scalar.text.trim().is_empty() => Ok(Vec::new()),
            Kind::Scalar(scalar) => Ok(vec![scalar.text.clone()]),
            _ => self.strings(),
        }
    }

    /// A list of strings, read as [`Self::prompts`] are. Wrong elements are noted and left out.
    pub fn strings(&self) -> Result<Vec<String>> {
        let prompt = |(index, node): (usize, &Node)| {
            let wrong = |why: &str| {
                let message = format!("prompt {} of `{}` is {why}", index + 1, self.entry.key.value);
                let span = if node.span.is_empty() { self.entry.key.span.clone() } else { node.span.clone() };
                self.source.error(message, span, "")
            };
            match &node.kind {
                Kind::Scalar(_) if node.is_null() => {
                    Err(wrong("null").hint("write its text, or put quotes around it if this word is meant"))
                }
                Kind::Scalar(scalar) => Ok(scalar.text.clone()),
                Kind::Map(_) => {
                    Err(wrong("a mapping, expected a string").hint("a string with `: ` in it needs quotes"))
                }
                Kind::List(_) => Err(wrong("a list, expected a string")),
            }
        };
        Ok(self.list()?.iter().enumerate().filter_map(|element| self.source.keep(prompt(element))).collect())
    }

    /// The row of `table` that the value names.
    pub fn one_of<T: Copy>(&self, table: &[(&'static str, T)]) -> Result<Located<T>> {
        let text = &self.text()?.text;
        if let Some((_, value)) = table.iter().find(|(name, _)| name == text) {
            return Ok(Located { value: *value, span: self.span() });
        }
        let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        let message = format!("`{}` cannot be \"{}\"", self.entry.key.value, shorten(text));
        let label = did_you_mean(text, names.iter().copied()).map_or(String::new(), |n| format!("did you mean `{n}`?"));
        Err(self.source.error(message, self.span(), label).hint(format!("it can be {}", quoted(&names))))
    }
}

/// A key that the mapping does not have: without effect, or a fault. The result is the known key that was likely meant.
fn foreign_key<'k>(source: &Source, entry: &Entry, known: &[&'k str], foreign: ForeignKeys) -> Option<&'k str> {
    let (key, span) = (entry.key.value.as_str(), &entry.key.span);
    if let Some(ignored) = foreign.ignored(key) {
        let agreed = |text: &str| ignored.agreed.contains(&text.trim().to_lowercase().as_str());
        if !matches!(&entry.value.kind, Kind::Scalar(scalar) if entry.value.is_null() || agreed(&scalar.text)) {
            source.warn(format!("`{key}` has no effect: {}", ignored.why), span);
        }
        return None;
    }
    let mut meant = None;
    source.fault(|| {
        let error = |label| source.error(format!("unknown key `{}`", shorten(key)), span.clone(), label);
        let names = known.iter().copied().chain(foreign.ignored.iter().copied().flatten().map(|ignored| ignored.key));
        let near = foreign.renamed(key).or_else(|| did_you_mean(key, names));
        meant = known.iter().copied().find(|name| near == Some(*name));
        let error = match (foreign.refused(key), near) {
            (Some(instead), _) => error(instead.to_owned()),
            (None, Some(near)) => error(format!("did you mean `{near}`?")),
            (None, None) => error(String::new()).hint(format!("known keys: {}", quoted(known))),
        };
        error.cause(Cause::UnknownKey)
    });
    meant
}
