//! The plan: every tensor of the output, its location and its expression. Pure: the same recipe and headers give the
//! same plan.
//!
//! [`OutputPlan`] is everything that writing needs; [`moe`], [`dense`] and [`gguf`] make one.

pub mod dense;
pub mod gguf;
pub mod moe;
mod part;

use std::{collections::HashMap, path::Path};

use moerge_checkpoint::{Encoding, ShardLayout, SourceFile, TensorSpec, TensorView, workers::try_map};
use serde_json::{Map, Value};

use crate::{
    error::Result,
    ops::{Expr, Identity},
};

pub use dense::{DenseModels, DensePlan, DensePlanOptions, DenseSummary};
pub use moe::{
    ExpertSummary, ModelSummary, Models, MoePlan, PlanOptions, PlanSummary, Prompts, Routing, Slots, UnusedSummary,
};
pub use part::Part;

/// The plan of an output's weights.
#[derive(Debug)]
pub struct OutputPlan {
    /// The output's `config.json`.
    pub config: Map<String, Value>,
    /// All tensors in file order.
    pub tensors: Vec<OutputTensor>,
    /// The locations of the tensors.
    pub layout: ShardLayout,
    /// Seed of noise and of random values.
    pub seed: u64,
    /// Weights of the sources that are not in the output.
    pub unused: Vec<UnusedWeights>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// One tensor of the output.
#[derive(Debug, Clone)]
pub struct OutputTensor {
    /// Its name in the output.
    pub name: String,
    /// How its elements are stored in the output.
    pub encoding: Encoding,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How its elements are made.
    pub expr: Expr,
}

/// Weights of a source that are left out for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedWeights {
    /// The source, as written in the recipe.
    pub source: String,
    /// What they are and why they are left out.
    pub what: String,
    /// Their names.
    pub names: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
}

impl OutputTensor {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|n| *n as u64).product()
    }

    /// What is laid out of it.
    pub fn spec(&self) -> TensorSpec {
        TensorSpec { name: self.name.clone(), encoding: self.encoding, shape: self.shape.clone() }
    }

    /// Number of bytes.
    pub fn bytes(&self) -> u64 {
        self.encoding.tensor_bytes(&self.shape).unwrap_or(0)
    }

    /// Whether its bytes are those of a source.
    pub fn is_copy(&self) -> bool {
        self.as_copy().is_some()
    }

    /// The source whose bytes it has, if it is stored as that is.
    pub fn as_copy(&self) -> Option<&TensorView> {
        self.encoding.dtype().and_then(|dtype| self.expr.as_copy(dtype))
    }
}

/// Content tags that are taken at once: each waits for its disk or server.
const TAGS_AT_ONCE: usize = 8;

/// Takes the content tags of all sources. Errors come again when the tags are asked for.
fn take_tags(tensors: &[OutputTensor]) {
    let views = tensors.iter().flat_map(|tensor| tensor.expr.reads());
    let files: HashMap<&Path, &SourceFile> = views.map(|view| (view.file.path.as_path(), &*view.file)).collect();
    let files: Vec<&SourceFile> = files.into_values().collect();
    let _ = try_map(&files, TAGS_AT_ONCE, |file| file.content_tag());
}

impl OutputPlan {
    /// Lays out `tensors` in shards of at most `shard_bytes`.
    ///
    /// # Errors
    /// Two tensors share a name, or a tensor is too large for the format.
    pub fn new(config: Map<String, Value>, tensors: Vec<OutputTensor>, shard_bytes: u64, seed: u64) -> Result<Self> {
        let layout = ShardLayout::new(tensors.iter().map(OutputTensor::spec).collect(), shard_bytes)?;
        Ok(Self { config, tensors, layout, seed, unused: Vec::new(), warnings: Vec::new() })
    }

    /// Adds everything that determines the output's weights to `id`, so that equal identities mean equal bytes on any
    /// machine.
    ///
    /// # Errors
    /// A source cannot be read.
    pub fn identify(&self, id: &mut Identity) -> Result<()> {
        // Unused weights and warnings do not change the output.
        let Self { config, tensors, layout, seed, unused: _, warnings: _ } = self;
        take_tags(tensors);
        id.text(env!("CARGO_PKG_VERSION")).text(&serde_json::to_string(config).unwrap_or_default()).number(*seed);
        id.list(layout.shards.iter(), |id, shard| {
            id.text(&shard.file_name).bytes(&shard.header);
        });
        tensors.iter().try_for_each(|OutputTensor { name, encoding, shape: _, expr }| {
            id.text(name).text(encoding.name());
            id.expr(expr)
        })
    }

    /// Bytes read from the sources.
    pub fn bytes_read(&self) -> u64 {
        self.tensors.iter().flat_map(|t| t.expr.reads()).map(|view| view.len).sum()
    }
}
