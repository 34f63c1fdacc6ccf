//! How a recipe names a model: a folder or a Hub id, a revision, an adapter.
//!
//! mergekit's notation is `model+adapter`, each part with an optional `@revision`. Whether `a@b` is a folder of that
//! name or revision `b` of `a` only the disk can say, so [`crate::model::locate`] tries what is written, as it is
//! written, before it believes the split made here.

use std::fmt;

use super::{
    fields::{Field, Fields},
    located::Located,
    source::Source,
    yaml::{Kind, Node},
};
use crate::error::Result;

/// A model as a recipe names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// A folder, or an id on the Hugging Face Hub.
    pub model: String,
    /// A branch, tag or commit on the Hub.
    pub revision: Option<String>,
    /// A LoRA to add to the model's weights.
    pub adapter: Option<Adapter>,
}

/// A LoRA adapter as a recipe names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Adapter {
    /// A folder, or an id on the Hugging Face Hub.
    pub model: String,
    /// A branch, tag or commit on the Hub.
    pub revision: Option<String>,
}

impl ModelRef {
    /// Reads `model[@revision][+adapter[@revision]]`. The last `+` and the last `@` of a part count. The error says
    /// which part is empty.
    pub fn parse(written: &str) -> Result<Self, &'static str> {
        let (model, adapter) = match written.rsplit_once('+') {
            Some((model, adapter)) => (model, Some(adapter)),
            None => (written, None),
        };
        let (model, revision) = split_revision(model).ok_or("the model's name is empty")?;
        let adapter = match adapter {
            Some(adapter) => {
                let (model, revision) = split_revision(adapter).ok_or("the adapter's name, after `+`, is empty")?;
                Some(Adapter { model, revision })
            }
            None => None,
        };
        Ok(Self { model, revision, adapter })
    }

    /// Reads the value of a key: a text, or mergekit's mapping `{model: .., lora: ..}`.
    pub(super) fn read(field: Field, source: &Source) -> Result<Located<Self>> {
        let span = field.span();
        let value = match &field.node().kind {
            Kind::Map(_) => Self::from_mapping(source, field.node())?,
            Kind::List(_) => return Err(field.wrong("a model").hint("a model is a folder or a Hub id, `org/name`")),
            Kind::Scalar(scalar) => Self::parse(&scalar.text).map_err(|why| source.error(why, span.clone(), ""))?,
        };
        Ok(Located { value, span })
    }

    fn from_mapping(source: &Source, node: &Node) -> Result<Self> {
        // `override_architecture` is mergekit's; its MoE merges look at `model_type` only, and so do these.
        let fields = Fields::open(source, node, "the model", &["model", "lora", "override_architecture"])?;
        let (model, revision) = part(source, fields.required("model", "add `model: org/name`")?)?;
        let adapter = fields.get("lora").map(|field| part(source, field)).transpose()?;
        Ok(Self { model, revision, adapter: adapter.map(|(model, revision)| Adapter { model, revision }) })
    }
}

/// A part of the mapping form: `path@revision`, or `{path: .., revision: ..}`.
fn part(source: &Source, field: Field) -> Result<(String, Option<String>)> {
    let empty = || source.error("the name is empty", field.span(), "");
    let node = field.node();
    if !matches!(node.kind, Kind::Map(_)) {
        return split_revision(&field.text()?.text).ok_or_else(empty);
    }
    let fields = Fields::open(source, node, "the model", &["path", "revision"])?;
    let path = fields.required("path", "add `path: org/name`")?.text()?.text.trim().to_owned();
    let revision = fields.get("revision").map(|f| f.text().map(|s| s.text.trim().to_owned())).transpose()?;
    if path.is_empty() { Err(empty()) } else { Ok((path, revision)) }
}

/// Splits at the last `@`; `None` if the name is empty. An `@` at the very end is part of the name.
fn split_revision(written: &str) -> Option<(String, Option<String>)> {
    let written = written.trim();
    let (name, revision) = match written.rsplit_once('@') {
        Some((name, revision)) if !revision.is_empty() => (name, Some(revision.to_owned())),
        _ => (written, None),
    };
    (!name.is_empty()).then(|| (name.to_owned(), revision))
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_part(f, &self.model, self.revision.as_deref())?;
        match &self.adapter {
            Some(adapter) => write!(f, "+{adapter}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_part(f, &self.model, self.revision.as_deref())
    }
}

fn write_part(f: &mut fmt::Formatter<'_>, model: &str, revision: Option<&str>) -> fmt::Result {
    f.write_str(model)?;
    match revision {
        Some(revision) => write!(f, "@{revision}"),
        None => Ok(()),
    }
}
