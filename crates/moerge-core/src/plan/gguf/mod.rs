//! The plan of a GGUF file: the tensors of a model under llama.cpp's names and in its types, and the metadata that its
//! readers need.
//!
//! Facts are those of llama.cpp's converter and quantiser (`convert_hf_to_gguf.py` and `llama-quant.cpp`, as in
//! llama-cpp-python 0.3.36).

mod architecture;
mod file_type;
mod general;
mod imatrix;
mod metadata;
mod mix;
mod model;
mod named_tensor;
mod pre_tokenizers;
mod rope;
mod tensors;
mod vocabulary;

use std::sync::Arc;

use moerge_checkpoint::gguf::{self, Metadata, Value};

pub use file_type::{FileType, uses_importance};
pub use general::General;
pub use imatrix::{ImatrixFacts, Importance, ImportanceMatrix, InputSums, WithImportance};
pub use mix::TypeRule;
pub use model::GgufModel;
use pre_tokenizers::pre_tokenizer_by_pattern;
pub use pre_tokenizers::{CHECK_TEXT, is_pre_tokenizer, pre_tokenizer, read_pre_tokenizer};
pub use vocabulary::{TokenizerFiles, TokenizerKind, Vocabulary};

use super::{OutputPlan, OutputTensor};
use crate::{error::Result, model::families::GgufArchitecture, ops::Identity};

/// The key of the plan's identity in a file's metadata: what proves that moerge made it. Every part of a split file has it.
pub const PLAN_ID_KEY: &str = "moerge.plan_id";

/// What a GGUF file is to be.
#[derive(Debug, Clone)]
pub struct GgufOptions {
    /// The mix of types.
    pub file_type: FileType,
    /// Types for tensors whose names match, before the mix: the first that matches counts.
    pub rules: Vec<TypeRule>,
    /// Maximum bytes of tensors in a file; a model with more is split into several files.
    pub max_bytes: Option<u64>,
    /// Name of the file without `.gguf`.
    pub stem: String,
    /// The importance matrix, if one is used. Its numbers are not needed for the plan.
    pub imatrix: Option<ImatrixFacts>,
}

/// Everything about a GGUF file before a weight is read.
#[derive(Debug)]
pub struct GgufPlan {
    /// What is written.
    pub output: OutputPlan,
    /// llama.cpp's name of the architecture.
    pub architecture: GgufArchitecture,
    /// The mix of types.
    pub file_type: FileType,
    /// The identity that the file has in its metadata.
    pub id: String,
    /// The model.
    pub model: Arc<GgufModel>,
}

impl GgufPlan {
    /// Plans the file of a model.
    ///
    /// # Errors
    /// The model, or something that its config asks for, has no place in GGUF.
    pub fn new(
        model: &Arc<GgufModel>,
        vocabulary: &Vocabulary,
        general: &General,
        options: &GgufOptions,
    ) -> Result<Self> {
        let (architecture, mut warnings) = architecture::choose(model)?;
        let named = tensors::tensors(model, architecture)?;
        let mixed = mix::mix(model, architecture, &named, options)?;
        warnings.extend(mixed.warnings(options.file_type));
        let tensors: Vec<OutputTensor> = named
            .into_iter()
            .zip(&mixed.encodings)
            .map(|(named, encoding)| OutputTensor {
                name: named.name,
                encoding: *encoding,
                shape: named.shape,
                expr: named.expr,
            })
            .collect();
        general.check(vocabulary)?;
        let mut metadata = metadata::metadata(model, architecture, general, options.file_type)?;
        metadata.extend(vocabulary.metadata.iter().cloned());
        let parameters: u64 = tensors.iter().map(OutputTensor::elements).sum();
        general::add_size(&mut metadata, model, parameters);
        metadata.extend(options.imatrix.iter().flat_map(ImatrixFacts::metadata));
        let mut plan = OutputPlan {
            config: model.config.raw.clone(),
            tensors,
            layout: moerge_checkpoint::ShardLayout { shards: Vec::new() },
            seed: model.seed,
            unused: Vec::new(),
            warnings,
        };
        // What a file is called changes nothing in it.
        plan.layout = lay_out(&plan, &metadata, &GgufOptions { stem: "model".to_owned(), ..options.clone() })?;
        let mut id = Identity::default();
        plan.identify(&mut id)?;
        id.text(&model.identity);
        if let Some(imatrix) = &options.imatrix {
            id.text("imatrix").text(&imatrix.identity);
        }
        let id = id.finish();
        metadata.push((PLAN_ID_KEY.to_owned(), Value::String(id.clone())));
        plan.layout = lay_out(&plan, &metadata, options)?;
        let (file_type, model) = (options.file_type, model.clone());
        Ok(Self { output: plan, architecture, file_type, id, model })
    }
}

fn lay_out(plan: &OutputPlan, metadata: &Metadata, options: &GgufOptions) -> Result<moerge_checkpoint::ShardLayout> {
    let specs = plan.tensors.iter().map(OutputTensor::spec).collect();
    Ok(gguf::layout(&options.stem, metadata, &[PLAN_ID_KEY], specs, options.max_bytes)?)
}
