//! Which models are stored in blocks.

use std::{collections::BTreeMap, path::Path};

use moerge_checkpoint::{BlockType, Encoding, ReadStorage, gguf::GgufFile};

use super::is_gguf;
use crate::model::source_files::SourceFiles;

/// A model that is stored in blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantisedSource {
    /// The reference, as written in the recipe.
    pub reference: String,
    /// The type of most of its weights.
    pub block: BlockType,
}

/// Those of `sources` that are, each once. Files that cannot be read are left out: whoever reads their weights says why.
pub fn quantised_sources<'a>(
    storage: &dyn ReadStorage,
    sources: impl Iterator<Item = SourceFiles<'a>>,
) -> Vec<QuantisedSource> {
    let mut found: Vec<QuantisedSource> = Vec::new();
    for source in sources.filter(|source| is_gguf(source.dir)) {
        let known = found.iter().any(|own| own.reference == source.reference);
        if let Some(block) = block_type(storage, source.dir).filter(|_| !known) {
            found.push(QuantisedSource { reference: source.reference.to_owned(), block });
        }
    }
    found
}

/// The type of most weights of a GGUF file; `None` if none are in blocks.
fn block_type(storage: &dyn ReadStorage, path: &Path) -> Option<BlockType> {
    let mut bytes: BTreeMap<BlockType, u64> = BTreeMap::new();
    for tensor in GgufFile::open(storage, path).ok()?.tensors {
        if let Some(Encoding::Blocks(block)) = tensor.encoding {
            *bytes.entry(block).or_default() += tensor.len;
        }
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(block, _)| block)
}

impl QuantisedSource {
    /// What a user should know.
    pub fn warning(&self) -> String {
        format!("{} is quantised ({}): its weights are used as they decode", self.reference, self.block)
    }
}
