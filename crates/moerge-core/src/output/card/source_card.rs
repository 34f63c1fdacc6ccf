//! What the card of a source declares in its front matter.

use std::{io, path::Path};

use moerge_checkpoint::{FileKind, ReadStorage};

use crate::error::{Error, Result};

/// Maximum bytes read of a card; the front matter is at its beginning.
const MAX_CARD: u64 = 1 << 20;
/// Maximum items of a list.
const MAX_ITEMS: usize = 100;

/// What the front matter of a model's README.md says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceCard {
    /// `model_name`.
    pub name: Option<String>,
    /// `license` in lower case; for `license: other`, `license_name`, so that two different "other"s never look alike.
    pub licence: Option<String>,
    /// `base_model`.
    pub base_models: Vec<String>,
    /// `tags`, and `pipeline_tag` after them.
    pub tags: Vec<String>,
    /// `language`.
    pub languages: Vec<String>,
}

impl SourceCard {
    /// Reads the card in `dir`. It is empty where there is no readable one. The card is read through `storage`, as the
    /// weights are, because the folder may be on the Hub.
    ///
    /// # Errors
    /// The card exists but cannot be read, such as when the connection to the Hub breaks.
    pub fn read(storage: &dyn ReadStorage, dir: &Path) -> Result<Self> {
        let path = dir.join(super::MODEL_CARD);
        let read = || -> io::Result<Vec<u8>> {
            // Opening a pipe could wait for ever.
            if storage.facts(&path)?.kind != FileKind::File {
                return Err(io::ErrorKind::NotFound.into());
            }
            let file = storage.open(&path)?;
            let mut text = vec![0; usize::try_from(file.len().min(MAX_CARD)).unwrap_or(0)];
            file.read_exact_at(&mut text, 0)?;
            Ok(text)
        };
        match read() {
            Ok(text) => Ok(Self::parse(&String::from_utf8_lossy(&text))),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                Ok(Self::default())
            }
            Err(e) => Err(Error::io("read", &path, &e)),
        }
    }

    fn parse(readme: &str) -> Self {
        let fields = front_matter(readme);
        let list = |key: &str| -> Vec<String> {
            fields.iter().filter(|(own, _)| *own == key).flat_map(|(_, values)| values.clone()).collect()
        };
        let one = |key: &str| match list(key).as_mut_slice() {
            [value] => Some(std::mem::take(value)),
            _ => None,
        };
        let licence = match one("license").map(|licence| licence.to_lowercase()).as_deref() {
            None | Some("unknown") => None,
            Some("other") => one("license_name").map(|name| name.to_lowercase()),
            Some(known) => Some(known.to_owned()),
        };
        Self {
            name: one("model_name"),
            licence,
            base_models: list("base_model"),
            tags: [list("tags"), list("pipeline_tag")].concat(),
            languages: list("language"),
        }
    }
}

/// The licence that the card of the model in `dir` declares.
///
/// # Errors
/// As those of [`SourceCard::read`].
pub fn source_licence(storage: &dyn ReadStorage, dir: &Path) -> Result<Option<String>> {
    Ok(SourceCard::read(storage, dir)?.licence)
}

/// The keys of the front matter that have plain values or lists of them; anything else is left out. Cards are written by
/// hand, and what a YAML parser refuses is common.
fn front_matter(readme: &str) -> Vec<(&str, Vec<String>)> {
    let mut lines = readme.trim_start_matches('\u{feff}').lines().map(str::trim_end);
    if lines.next() != Some("---") {
        return Vec::new();
    }
    let mut fields: Vec<(&str, Vec<String>)> = Vec::new();
    // Whether the items of a list may follow.
    let mut open = false;
    for line in lines.take_while(|line| *line != "---") {
        match (line.trim_start().strip_prefix("- "), fields.last_mut()) {
            (Some(item), Some((_, values))) if open => {
                values.extend(value(item).filter(|_| values.len() < MAX_ITEMS));
            }
            _ => {
                let field = line.split_once(':').filter(|(key, _)| !key.starts_with([' ', '\t', '#', '-']));
                let Some((key, rest)) = field else {
                    open = open && line.is_empty();
                    continue;
                };
                let values = values(rest);
                open = values.is_empty();
                fields.push((key, values));
            }
        }
    }
    fields
}

/// A value, or those of a list in brackets.
fn values(text: &str) -> Vec<String> {
    let text = without_comment(text);
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(items) => items.split(',').take(MAX_ITEMS).filter_map(value).collect(),
        None => value(text).into_iter().collect(),
    }
}

/// A plain or quoted scalar without its comment.
fn value(text: &str) -> Option<String> {
    let text = without_comment(text).trim_matches(['"', '\'']).trim();
    let plain = |c: char| !c.is_control() && !"[],{}\"\\".contains(c);
    (!text.is_empty() && text.len() <= 100 && text.chars().all(plain)).then(|| text.to_owned())
}

fn without_comment(text: &str) -> &str {
    text.split(" #").next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::SourceCard;

    #[test]
    fn licences_are_read_in_the_spellings_found_on_the_hub() {
        for (readme, expected) in [
            ("---\nlicense: apache-2.0\n---\n# x", Some("apache-2.0")),
            ("\u{feff}---\r\ntags:\r\n- x\r\nlicense: \"MIT\"  # ours\r\n---\r\n", Some("mit")),
            ("---\nlicense:\n- cc-by-nc-4.0\n---\n", Some("cc-by-nc-4.0")),
            ("---\nlicense: [llama2]\n---\n", Some("llama2")),
            ("---\nlicense: other\nlicense_name: qwen-research\n---\n", Some("qwen-research")),
            ("---\nlicense: other\n---\n", None),
            ("---\nlicense: unknown\n---\n", None),
            ("---\nlicense: [a, b]\n---\n", None),
            ("---\nmodel-index:\n  license: mit\n---\n", None),
            ("license: mit\n", None),
            ("---\n---\nlicense: mit\n", None),
            ("", None),
        ] {
            assert_eq!(SourceCard::parse(readme).licence.as_deref(), expected, "{readme:?}");
        }
    }

    #[test]
    fn lists_are_read_in_both_forms() {
        let card = SourceCard::parse(
            "---\nmodel_name: Tiny Mix\nbase_model:\n- a/b\n  - \"c/d\" # the other\nlanguage: [en, 'de']\n\
             tags:\n\n- merge\n- name: {x}\npipeline_tag: text-generation\nmetrics:\n- value: 3\n---\n- e/f\n",
        );
        assert_eq!(card.name.as_deref(), Some("Tiny Mix"));
        assert_eq!(card.base_models, ["a/b", "c/d"]);
        assert_eq!(card.languages, ["en", "de"]);
        assert_eq!(card.tags, ["merge", "text-generation"]);
        assert_eq!(SourceCard::parse("---\nbase_model: a/b\ntags: x\n---\n").base_models, ["a/b"]);
    }
}
