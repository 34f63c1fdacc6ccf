//! A model in a recipe: a string, or mergekit's mapping.

use super::{
    fields::{Field, Fields},
    foreign_keys::OF_MODEL,
    located::Located,
    source::Source,
    yaml::{Kind, Node},
};
use crate::{
    error::Result,
    model::model_ref::{Adapter, ModelRef, split_revision},
};

/// Reads the value of a key: a string, or mergekit's mapping `{model: .., lora: ..}`.
pub(super) fn read_model_ref(field: Field, source: &Source) -> Result<Located<ModelRef>> {
    let span = field.span();
    let value = match &field.node().kind {
        Kind::Map(_) => from_mapping(source, field.node())?,
        Kind::List(_) => return Err(field.wrong("a model").hint("a model is a folder or a Hub id, `org/name`")),
        Kind::Scalar(scalar) => ModelRef::parse(&scalar.text).map_err(|why| source.error(why, span.clone(), ""))?,
    };
    Ok(Located { value, span })
}

fn from_mapping(source: &Source, node: &Node) -> Result<ModelRef> {
    let fields = Fields::open_with(source, node, "the model", &["model", "lora"], OF_MODEL)?;
    let (model, revision) = part(source, fields.required("model", "add `model: org/name`")?)?;
    let adapter = fields.get("lora").map(|field| part(source, field)).transpose()?;
    Ok(ModelRef { model, revision, adapter: adapter.map(|(model, revision)| Adapter { model, revision }) })
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
