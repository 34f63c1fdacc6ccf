//! Describes the tensors of a model from its `config.json`.

use super::{DecoderOptions, Family, Role};
use crate::{error::Result, model::config::ModelConfig};

/// A model according to its `config.json`: how to run it, and all its tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// How to run it.
    pub decoder: DecoderOptions,
    /// All weights in file order: embeddings, layers, final norm, head (unless it is tied).
    pub tensors: Vec<RoleTensor>,
    /// Whether it is the text part of a multimodal model, whose tensor names have a prefix.
    pub text_part: bool,
}

/// The tensor of a role.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleTensor {
    /// The role.
    pub role: Role,
    /// The tensor's name in the checkpoint.
    pub name: String,
    /// The shape of the role.
    pub shape: Vec<usize>,
    /// The position of the role in a tensor that several roles share; `None` if it is the whole tensor.
    pub part_of: Option<FusedPart>,
}

/// The rows `first_row..first_row + shape[0]` of a tensor that several roles share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FusedPart {
    /// First row.
    pub first_row: usize,
    /// Rows of the whole tensor, summed over its matrices.
    pub of_rows: usize,
    /// The number of matrices if the tensor is a stack, such as all experts of a layer. Its shape then has one more
    /// dimension.
    pub stack: Option<usize>,
}

impl Description {
    /// The tensor of `role`, if the model has one.
    pub fn get(&self, role: Role) -> Option<&RoleTensor> {
        self.tensors.iter().find(|t| t.role == role)
    }
}

impl RoleTensor {
    /// A tensor that is exactly one role.
    pub(super) fn whole(role: Role, name: impl Into<String>, shape: Vec<usize>) -> Self {
        Self { role, name: name.into(), shape, part_of: None }
    }
}

/// Describes a model of a supported family, dense or MoE.
///
/// # Errors
/// The family, or something that the config asks for, is not supported.
pub fn describe(config: &ModelConfig) -> Result<Description> {
    Family::of(config)?.describe(config)
}

impl Family {
    /// Describes a model of this family.
    ///
    /// # Errors
    /// The config asks for something that moerge does not support.
    pub fn describe(&self, config: &ModelConfig) -> Result<Description> {
        let decoder = DecoderOptions {
            hidden: config.hidden_size,
            vocabulary: config.vocab_size,
            norm_eps: config.norm_eps,
            tied_embeddings: config.tied_embeddings,
            layers: (self.layers)(config)?,
        };
        let (hidden, vocabulary) = (decoder.hidden, decoder.vocabulary);
        let mut tensors =
            vec![RoleTensor::whole(Role::Embeddings, "model.embed_tokens.weight", vec![vocabulary, hidden])];
        for (layer, spec) in decoder.layers.iter().enumerate() {
            let weights = spec.weights(hidden).into_iter();
            tensors.extend(weights.map(|(role, shape)| self.names.tensor(layer, spec, role, shape)));
        }
        tensors.push(RoleTensor::whole(Role::FinalNorm, "model.norm.weight", vec![hidden]));
        if !decoder.tied_embeddings {
            tensors.push(RoleTensor::whole(Role::LmHead, "lm_head.weight", vec![vocabulary, hidden]));
        }
        Ok(Description { decoder, tensors, text_part: config.part_of.is_some() })
    }
}
