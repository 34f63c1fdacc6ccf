//! Families of models as tables: tensor names, options of the decoder, and which MoE family represents which dense one.
//!
//! [`describe`] is the one way from a `config.json` to names and shapes; the prompt pass reads a model by it, the plan
//! writes one by it, `verify` checks one by it. A new family is a row in [`dense`] or [`moe`].

mod decoder;
mod dense;
mod find;
mod moe;
mod role;
mod stored;

pub use decoder::{Activation, DecoderOptions, FfnOptions, SharedExpertOptions};
pub use dense::DenseFamily;
pub use moe::{MoeFamily, MoeShape};
pub use role::{FfnMatrix, LayerRole, Projection, Role};

use crate::{
    error::{Error, Result},
    model::config::ModelConfig,
};

/// A model as its `config.json` promises it: how to run it, and every tensor it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// How to run it.
    pub decoder: DecoderOptions,
    /// Every weight, in file order: embeddings, layers, final norm, head (left out where embeddings are tied).
    pub tensors: Vec<RoleTensor>,
}

/// Where a role's weights lie and what shape they have.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleTensor {
    /// What it is for.
    pub role: Role,
    /// The tensor's name in the checkpoint.
    pub name: String,
    /// The role's own shape.
    pub shape: Vec<usize>,
    /// First row of the role in a fused tensor, and the rows of the whole tensor; `None` where the tensor is the role.
    pub part_of: Option<FusedPart>,
}

/// The rows `first..first + shape[0]` of a tensor that several roles share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FusedPart {
    /// First row.
    pub first_row: usize,
    /// Rows of the whole tensor, those of all its matrices together.
    pub of_rows: usize,
    /// Where the tensor is a stack of matrices, such as all experts of a layer: how many. Its shape has one dimension
    /// more then.
    pub stack: Option<usize>,
}

impl Description {
    /// The tensor of `role`, if the model has one.
    pub fn get(&self, role: Role) -> Option<&RoleTensor> {
        self.tensors.iter().find(|t| t.role == role)
    }
}

/// Describes a dense model or an MoE that moerge knows; anything else is refused, naming what stands in the way.
pub fn describe(config: &ModelConfig) -> Result<Description> {
    if let Some(family) = MoeFamily::of(&config.model_type) {
        return family.describe(config);
    }
    DenseFamily::of(config)?.describe(config)
}

/// Whether moerge knows models of this type at all: a `config.json` of theirs that cannot be described is wrong, or has
/// a feature that an error names as [unsupported](crate::Error::unsupported).
pub fn is_known(model_type: &str) -> bool {
    MoeFamily::of(model_type).is_some() || DenseFamily::names().any(|name| name == model_type)
}

/// The activation of the FFN.
fn activation(config: &ModelConfig) -> Result<Activation> {
    match config.hidden_act.as_str() {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => Err(Error::input(format!(
            "{}: `hidden_act` is \"{}\", which no MoE family here has",
            config.path.display(),
            crate::suggest::shorten(other)
        ))
        .hint("supported: silu, gelu_pytorch_tanh")
        .unsupported()),
    }
}

#[cfg(test)]
mod tests;
