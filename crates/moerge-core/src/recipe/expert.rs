//! One expert of a recipe, and how it is read.

use std::path::PathBuf;

use super::{
    ModelRef,
    fields::{Field, Fields},
    foreign_keys::OF_EXPERT,
    layers::Layers,
    located::Located,
    model_ref_field::read_model_ref,
    source::Source,
    yaml::{Kind, Node},
};
use crate::{error::Result, suggest::shorten};

/// A model whose FFN becomes an expert, and what should be routed to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Expert {
    /// Where the FFN comes from.
    pub source_model: Located<ModelRef>,
    /// Prompts like those it should see. [`super::Recipe::load`] adds those of the file.
    pub positive_prompts: Vec<String>,
    /// Prompts like those it should not see.
    pub negative_prompts: Vec<String>,
    /// A file of more positive prompts.
    pub positive_prompts_file: Option<Located<PathBuf>>,
    /// A file of more negative prompts.
    pub negative_prompts_file: Option<Located<PathBuf>>,
    /// Text like that it should see, to measure the fitted routers on. [`super::Recipe::load`] adds that of the file.
    pub validation: Vec<String>,
    /// A file of such text.
    pub validation_file: Option<Located<PathBuf>>,
    /// The layers that it is limited to; by default all.
    pub layers: Option<Layers>,
    /// Its weight in `shared_weights: average`: 0 or more; by default 1.
    pub shared_weight: Option<f64>,
    /// Standard deviation of the normal noise added to its matrices; never negative.
    pub noise_scale: Option<f64>,
    /// Factor on its down projection, after the noise.
    pub residual_scale: Option<f64>,
}

const KEYS: [&str; 10] = [
    "source_model",
    "positive_prompts",
    "negative_prompts",
    "positive_prompts_file",
    "negative_prompts_file",
    "validation",
    "layers",
    "shared_weight",
    "noise_scale",
    "residual_scale",
];

/// Reads an expert, called `what` in messages. What is wrong is noted and left out.
pub(super) fn read_expert(source: &Source, node: &Node, what: String) -> Result<Expert> {
    if let Kind::Scalar(scalar) = &node.kind
        && !node.is_null()
    {
        return Err(source
            .error(format!("{what} is a single value, expected keys with values"), node.span.clone(), "")
            .hint(format!("write `- source_model: {}`", shorten(&scalar.text))));
    }
    let fields = Fields::open_with(source, node, what, &KEYS, OF_EXPERT)?;
    let source_model = fields.required("source_model", "add `source_model: org/name`");
    let source_model = source_model.and_then(|field| read_model_ref(field, source));
    let prompts = |key| fields.read(key, |field| field.prompts()).unwrap_or_default();
    let (validation, validation_file) = match fields.get("validation") {
        // A list holds text, a single value names a file.
        Some(field) if matches!(field.node().kind, Kind::List(_)) => (fields.read("validation", validation), None),
        _ => (None, fields.read("validation", path)),
    };
    Ok(Expert {
        source_model: source.keep(source_model).unwrap_or_else(|| Located { value: ModelRef::unknown(), span: 0..0 }),
        positive_prompts: prompts("positive_prompts"),
        negative_prompts: prompts("negative_prompts"),
        positive_prompts_file: fields.read("positive_prompts_file", path),
        negative_prompts_file: fields.read("negative_prompts_file", path),
        validation: validation.unwrap_or_default(),
        validation_file,
        layers: fields.read("layers", |field| Layers::read(field, source)),
        shared_weight: fields.read("shared_weight", shared_weight),
        noise_scale: fields.read("noise_scale", noise_scale),
        residual_scale: fields.read("residual_scale", |field| field.number()),
    })
}

fn validation(field: Field) -> Result<Vec<String>> {
    let texts = field.strings()?;
    match texts.iter().position(|text| text.trim().is_empty()) {
        Some(empty) => Err(field.error(&format!("text {} of `validation` is empty", empty + 1))),
        None => Ok(texts),
    }
}

fn path(field: Field) -> Result<Located<PathBuf>> {
    let text = &field.text()?.text;
    if text.is_empty() {
        return Err(field.wrong("a file"));
    }
    Ok(Located { value: PathBuf::from(text), span: field.span() })
}

fn shared_weight(field: Field) -> Result<f64> {
    let weight = field.number()?;
    if weight < 0.0 { Err(field.wrong("a weight, 0 or above")) } else { Ok(weight) }
}

fn noise_scale(field: Field) -> Result<f64> {
    let scale = field.number()?;
    if scale < 0.0 {
        return Err(field
            .wrong("a standard deviation, 0 or above")
            .hint("the noise is as often below 0 as above; 0, or no `noise_scale`, adds none"));
    }
    Ok(scale)
}
