//! The YAML at the top of a card, which the Hub reads (<https://huggingface.co/docs/hub/model-cards>), and references to
//! models as links.

use std::fmt::Write as _;

use super::text::{cell, quoted};

/// What the front matter is made from.
pub(super) struct FrontMatter<'a> {
    /// The models, as the recipe calls them, the base first.
    pub references: Vec<&'a str>,
    /// References that are folders on this machine.
    pub folders: &'a [String],
    /// The licence of each source where it is known.
    pub licences: &'a [Option<String>],
    /// Tags.
    pub tags: &'a [&'a str],
}

impl FrontMatter<'_> {
    /// The text, with its fences.
    pub fn text(&self) -> String {
        let mut yaml = String::from("---\n");
        let bases = hub_ids(self.folders, &self.references);
        if !bases.is_empty() {
            yaml.push_str("base_model:\n");
            for id in bases {
                let _ = writeln!(yaml, "- {}", quoted(&id));
            }
            yaml.push_str("base_model_relation: merge\n");
        }
        if let Some(licence) = common_licence(self.licences) {
            let _ = writeln!(yaml, "license: {}", quoted(licence));
        }
        yaml.push_str("library_name: transformers\npipeline_tag: text-generation\ntags:\n");
        for tag in self.tags {
            let _ = writeln!(yaml, "- {tag}");
        }
        yaml.push_str("---\n");
        yaml
    }
}

/// The Hub ids among `references` to models and adapters, each once. Those of `folders` are paths.
pub fn hub_ids(folders: &[String], references: &[&str]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for part in references.iter().flat_map(|reference| reference.split('+')) {
        if let Some(id) = hub_id(folders, part).filter(|id| !ids.iter().any(|own| own == id)) {
            ids.push(id.to_owned());
        }
    }
    ids
}

/// The licence that all sources have; `None` where one is unknown or differs.
pub fn common_licence(licences: &[Option<String>]) -> Option<&str> {
    let first = licences.first()?.as_deref()?;
    licences.iter().all(|l| l.as_deref() == Some(first)).then_some(first)
}

/// The Hub id in a reference such as `org/name@revision`; `None` where it is one of `folders` or looks like a path.
pub(super) fn hub_id<'a>(folders: &[String], reference: &'a str) -> Option<&'a str> {
    if folders.iter().any(|f| f == reference) {
        return None;
    }
    let id = reference.split('@').next().unwrap_or_default();
    let (organisation, name) = id.split_once('/')?;
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-', '~'])
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    (plain(organisation) && plain(name)).then_some(id)
}

/// A reference as a link where it is a Hub id, as code where it is a path.
pub(super) fn link(folders: &[String], reference: &str) -> String {
    let parts = reference.split('+').map(|part| match hub_id(folders, part) {
        Some(id) => format!("[{}](https://huggingface.co/{id})", cell(part)),
        None => cell(part.trim_end_matches('/').rsplit('/').next().unwrap_or(part)),
    });
    parts.collect::<Vec<_>>().join(" + ")
}
