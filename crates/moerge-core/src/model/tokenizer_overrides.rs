//! The tokenizer of a model that an earlier document of the recipe merges: the files of one of its models, except for what
//! the document changes.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::ReadStorage;

use super::{files::TOKENIZER, tokenizer_file::TokenizerFile};

/// Replacements for files in the folder that a tokenizer is copied from. Models that are read from a folder have none.
#[derive(Debug, Clone, Default)]
pub struct TokenizerOverrides {
    /// `tokenizer.json` with a merged vocabulary.
    pub vocabulary: Option<Arc<TokenizerFile>>,
    /// The chat template that the document sets.
    pub chat_template: Option<String>,
}

impl TokenizerOverrides {
    /// Whether both have the same vocabulary, given that they replace files of one folder.
    pub fn same_vocabulary(&self, other: &Self) -> bool {
        match (&self.vocabulary, &other.vocabulary) {
            (None, None) => true,
            (Some(one), Some(two)) => Arc::ptr_eq(one, two) || one.same_tokens(two),
            _ => false,
        }
    }

    /// Length of `tokenizer.json`, which is in `dir` unless it is replaced; 0 where there is none.
    pub fn tokenizer_bytes(&self, storage: &dyn ReadStorage, dir: &Path) -> u64 {
        match &self.vocabulary {
            Some(merged) => merged.to_text().len() as u64,
            None => storage.facts(&dir.join(TOKENIZER)).map_or(0, |facts| facts.len),
        }
    }
}
