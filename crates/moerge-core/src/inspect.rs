//! Describes a model folder from its headers and small files: a dense model, MoE, adapter, or something unknown.
//!
//! Reads no weights. A folder that moerge cannot use is described too, with its tensors grouped by name.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use moerge_checkpoint::{Checkpoint, ReadStorage, TensorView};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    error::Result,
    model::{
        config::ModelConfig,
        families::Description,
        files::{CHAT_TEMPLATE, CONFIG, TOKENIZER_CONFIG, TOKENIZER_FILES},
        folder::ModelFolder,
        gguf::{GgufFolder, is_gguf},
    },
    record::{FileRecord, MoergeJson},
};

mod tensor_groups;

pub use tensor_groups::TensorGroup;

/// The description of a folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The kind of folder.
    pub kind: FolderKind,
    /// `model_type` in `config.json`.
    pub model_type: Option<String>,
    /// `architectures[0]` in `config.json`: the class that loads it.
    pub class: Option<String>,
    /// The decoder's sizes, if the family is known.
    pub sizes: Option<Sizes>,
    /// The MoE's numbers, if it is one.
    pub moe: Option<MoeSizes>,
    /// The adapter's settings, if it is one.
    pub adapter: Option<AdapterFacts>,
    /// Parameters in the files.
    pub parameters: u64,
    /// Parameters that are active per token.
    pub active_parameters: u64,
    /// The weight files.
    pub files: Vec<FileRecord>,
    /// Bytes of the weight files.
    pub bytes: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Tensors of each element type.
    pub dtypes: BTreeMap<String, usize>,
    /// Parameters grouped by purpose.
    pub parts: Vec<TensorGroup>,
    /// Files of the tokenizer.
    pub tokenizer: Vec<String>,
    /// The file with the chat template.
    pub chat_template: Option<String>,
    /// The run that made it, if moerge did.
    pub made_by: Option<Provenance>,
    /// Why something is unknown.
    pub notes: Vec<String>,
}

/// Kinds of model folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderKind {
    /// A model with one FFN per layer.
    Dense,
    /// A Mixture of Experts.
    Moe,
    /// A PEFT adapter.
    Adapter,
    /// A model of a family that moerge does not know.
    Unknown,
}

/// A decoder's sizes, in elements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sizes {
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the FFN, or of a routed expert.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embeddings.
    pub vocabulary: usize,
    /// Maximum context in tokens.
    pub context: usize,
    /// The sliding window in tokens, if any.
    pub sliding_window: Option<usize>,
    /// Whether the head is the embedding matrix.
    pub tied_embeddings: bool,
}

/// An MoE's numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MoeSizes {
    /// Routed experts.
    pub experts: usize,
    /// Experts per token.
    pub experts_per_token: usize,
    /// Width of the shared expert.
    pub shared: Option<usize>,
}

/// Settings from `adapter_config.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterFacts {
    /// The model it was trained on.
    pub base_model: Option<String>,
    /// `LORA`, ...
    pub peft_type: Option<String>,
    /// Rank.
    pub rank: Option<u64>,
    /// Alpha.
    pub alpha: Option<f64>,
    /// `rslora`, `dora` if enabled.
    pub variants: Vec<String>,
    /// Modules that it changes.
    pub target_modules: Vec<String>,
}

/// Facts from `moerge.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    /// The version of moerge.
    pub moerge_version: String,
    /// The id of the plan.
    pub plan_id: String,
    /// The sources, as named in the recipe.
    pub sources: Vec<String>,
}

/// Describes the folder `dir`.
///
/// # Errors
/// The folder does not exist, its weights cannot be opened, or its adapter config is not a JSON object.
pub fn inspect(storage: &Arc<dyn ReadStorage>, dir: &Path) -> Result<Inspection> {
    let folder = ModelFolder::open(storage, dir)?;
    let weights = folder.weights()?;
    let adapter = folder.adapter_config()?;
    let config = folder.object(CONFIG)?.unwrap_or_default();
    let (known, mut notes) = match folder.description() {
        _ if adapter.is_some() => (None, Vec::new()),
        Ok((config, description)) => (Some((config, description.stored_in(&weights))), Vec::new()),
        Err(error) => (None, vec![error.parts().message.clone()]),
    };
    // The record is optional: the content of the folder is described without it.
    let record = folder.record().unwrap_or_else(|error| {
        notes.push(error.parts().message.clone());
        None
    });
    let moe = known.as_ref().and_then(|(_, description)| moe_sizes(description));
    let gguf = is_gguf(dir).then(|| GgufFolder::open(storage.as_ref(), dir)).transpose()?;
    let stored = |view: &TensorView| match gguf.as_ref().and_then(|gguf| gguf.stored_as(&view.name)) {
        Some(encoding) => (encoding.name(), encoding.tensor_bytes(&view.shape).unwrap_or(view.len)),
        None => (view.dtype.name(), view.len),
    };
    let parts = tensor_groups::group(&weights, known.as_ref().map(|(_, description)| description), &stored);
    let files: Vec<FileRecord> = match &gguf {
        Some(gguf) => gguf.files().iter().map(|(path, bytes)| file(path, *bytes)).collect(),
        None => weights.files().iter().map(|f| file(&f.path, f.len)).collect(),
    };
    let parameters = parts.iter().map(|p| p.parameters).sum();
    Ok(Inspection {
        kind: match (&adapter, &known, &moe) {
            (Some(_), ..) => FolderKind::Adapter,
            (_, None, _) => FolderKind::Unknown,
            (_, _, Some(_)) => FolderKind::Moe,
            _ => FolderKind::Dense,
        },
        model_type: text(&config, "model_type"),
        class: config.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str).map(str::to_owned),
        sizes: known.as_ref().map(|(config, description)| sizes(config, description)),
        adapter: adapter.as_ref().map(adapter_facts),
        parameters,
        active_parameters: parameters - idle_parameters(&parts, moe.as_ref()),
        moe,
        bytes: files.iter().map(|file| file.bytes).sum(),
        files,
        tensors: weights.len(),
        dtypes: dtypes(&weights, &stored),
        parts,
        tokenizer: tokenizer(&folder),
        chat_template: chat_template(&folder),
        made_by: record.map(provenance),
        notes,
    })
}

fn text(config: &Map<String, Value>, key: &str) -> Option<String> {
    config.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn file(path: &Path, bytes: u64) -> FileRecord {
    FileRecord { name: path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(), bytes }
}

fn sizes(config: &ModelConfig, description: &Description) -> Sizes {
    let decoder = &description.decoder;
    let first = decoder.layers.first();
    let attention = first.map(|layer| layer.attention());
    Sizes {
        layers: decoder.layers.len(),
        hidden: decoder.hidden,
        intermediate: first.map_or(0, |layer| layer.ffn.intermediate()),
        heads: attention.map_or(0, |a| a.heads),
        kv_heads: attention.map_or(0, |a| a.kv_heads),
        head_dim: attention.map_or(0, |a| a.head_dim),
        vocabulary: decoder.vocabulary,
        context: config.max_positions,
        sliding_window: decoder.windows().flatten().next(),
        tied_embeddings: decoder.tied_embeddings,
    }
}

fn moe_sizes(description: &Description) -> Option<MoeSizes> {
    description.decoder.experts().map(|spec| MoeSizes {
        experts: spec.experts,
        experts_per_token: spec.top_k,
        shared: spec.shared.map(|shared| shared.intermediate),
    })
}

/// Parameters of the experts that are not active for a token.
fn idle_parameters(parts: &[TensorGroup], moe: Option<&MoeSizes>) -> u64 {
    let Some(moe) = moe else { return 0 };
    let of_experts: u64 = parts.iter().filter(|p| p.name == tensor_groups::EXPERTS).map(|p| p.parameters).sum();
    of_experts / moe.experts as u64 * (moe.experts - moe.experts_per_token) as u64
}

fn dtypes(weights: &Checkpoint, stored: &dyn Fn(&TensorView) -> (&'static str, u64)) -> BTreeMap<String, usize> {
    let mut dtypes = BTreeMap::new();
    for tensor in weights.tensors() {
        *dtypes.entry(stored(tensor).0.to_owned()).or_default() += 1;
    }
    dtypes
}

fn tokenizer(folder: &ModelFolder) -> Vec<String> {
    TOKENIZER_FILES.iter().filter(|name| folder.has(name)).map(|name| (*name).to_owned()).collect()
}

fn chat_template(folder: &ModelFolder) -> Option<String> {
    if folder.has(CHAT_TEMPLATE) {
        return Some(CHAT_TEMPLATE.into());
    }
    let config = folder.object(TOKENIZER_CONFIG).ok()??;
    config.get("chat_template").is_some_and(|t| !t.is_null()).then(|| TOKENIZER_CONFIG.into())
}

fn adapter_facts(config: &Map<String, Value>) -> AdapterFacts {
    let on = |key: &str| config.get(key).and_then(Value::as_bool) == Some(true);
    let variants = [("use_rslora", "rslora"), ("use_dora", "dora")];
    AdapterFacts {
        base_model: text(config, "base_model_name_or_path"),
        peft_type: text(config, "peft_type"),
        rank: config.get("r").and_then(Value::as_u64),
        alpha: config.get("lora_alpha").and_then(Value::as_f64),
        variants: variants.iter().filter(|(key, _)| on(key)).map(|(_, name)| (*name).to_owned()).collect(),
        target_modules: match config.get("target_modules") {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(Value::String(name)) => vec![name.clone()],
            _ => Vec::new(),
        },
    }
}

fn provenance(record: MoergeJson) -> Provenance {
    let sources = record.sources.into_iter().map(|s| s.reference).collect();
    Provenance { moerge_version: record.moerge_version, plan_id: record.plan_id, sources }
}

#[cfg(test)]
mod tests;
