//! `shared_weights`: where attention, norms, embeddings and head of an MoE come from.

use super::{
    dense::{Parameters, read_method, read_parameters},
    fields::{Field, Fields},
    located::Located,
    source::Source,
    yaml::Kind,
};
use crate::{error::Result, ops::MethodSpec};

/// Source of the weights that all experts share: attention, norms, embeddings, head.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum SharedWeights {
    /// The base, as with mergekit.
    #[default]
    Base,
    /// The mean over the experts, weighted by `shared_weight`.
    Average,
    /// The experts' and the base's, merged by a method of dense merges.
    Merge(SharedMerge),
}

/// A dense method for the weights that all experts share.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedMerge {
    /// The method.
    pub method: Located<&'static MethodSpec>,
    /// Its parameters, for all experts. The `weight` of an expert is its `shared_weight`, where it has one.
    pub parameters: Parameters,
}

impl SharedWeights {
    /// By the names a recipe uses.
    const TABLE: [(&'static str, bool); 2] = [("base", false), ("average", true)];

    /// The name a recipe uses, or that of the method.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Average => "average",
            Self::Merge(merge) => merge.method.name,
        }
    }

    /// Whether the experts' own weights have a part in it.
    pub fn of_experts(&self) -> bool {
        *self != Self::Base
    }

    /// `base`, `average`, or a mapping with `merge_method` and `parameters`.
    pub(super) fn read(source: &Source, field: Field) -> Result<Self> {
        if !matches!(field.node().kind, Kind::Map(_)) {
            let average = field.one_of(&Self::TABLE).map_err(|error| {
                error.hint("or a method of dense merges: `shared_weights: {merge_method: ties, parameters: {...}}`")
            })?;
            return Ok(if average.value { Self::Average } else { Self::Base });
        }
        let fields = Fields::open(source, field.node(), "`shared_weights`", &["merge_method", "parameters"])?;
        let method = read_method(source, fields.required("merge_method", "add `merge_method: ties`")?)?;
        let parameters = read_parameters(source, &fields, Some(&method));
        Ok(Self::Merge(SharedMerge { method, parameters }))
    }
}
