//! `layers`: the layers that an expert is limited to.
//!
//! A layer is counted from 0; a range such as `0-11` includes both ends.

use std::{fmt, ops::RangeInclusive};

use super::{
    fields::Field,
    located::Located,
    source::Source,
    yaml::{Kind, Node},
};
use crate::{error::Result, suggest::shorten};

/// Some layers of a model, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Layers(Vec<Located<RangeInclusive<usize>>>);

impl Layers {
    /// Whether `layer` is one of them.
    pub fn contains(&self, layer: usize) -> bool {
        self.0.iter().any(|range| range.contains(&layer))
    }

    /// The ranges as the recipe writes them.
    pub fn ranges(&self) -> &[Located<RangeInclusive<usize>>] {
        &self.0
    }

    /// A layer, a range, or a list of both.
    pub(super) fn read(field: Field, source: &Source) -> Result<Self> {
        let range = |node: &Node| {
            let expected = "a layer such as `3`, or a range such as `0-11`";
            let Kind::Scalar(scalar) = &node.kind else {
                let message = format!("`layers` has {} in it, expected {expected}", node.describe());
                return Err(source.error(message, node.span.clone(), ""));
            };
            let wrong = |what: &str| {
                let message = format!("`layers` has \"{}\" in it, {what}", shorten(&scalar.text));
                source.error(message, node.span.clone(), "")
            };
            let text = scalar.text.trim();
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            match (first.trim().parse(), last.trim().parse()) {
                (Ok(first), Ok(last)) if first > last => {
                    Err(wrong("which ends before it begins").hint(format!("write `{last}-{first}`")))
                }
                (Ok(first), Ok(last)) => Ok(Located { value: first..=last, span: node.span.clone() }),
                _ => Err(wrong(&format!("expected {expected}"))),
            }
        };
        match &field.node().kind {
            Kind::List(items) if items.is_empty() => Err(source
                .error("`layers` is an empty list, so the expert would be nowhere", field.span(), "")
                .hint("leave `layers` out for an expert in all layers")),
            Kind::List(items) => Ok(Self(items.iter().filter_map(|item| source.keep(range(item))).collect())),
            _ => Ok(Self(vec![range(field.node())?])),
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}
