//! What a GGUF file says besides the weights: the tokenizer, and where the model comes from.

use std::path::Path;

use moerge_checkpoint::ReadStorage;
use moerge_core::{
    error::{Error, Result},
    output::card::source_licence,
    plan::gguf::{CHECK_TEXT, General, TokenizerFiles, TokenizerKind, Vocabulary},
};
use moerge_infer::tokenizer::Tokenizer;

use super::ExportOptions;

/// The small files of a model as metadata.
#[derive(Debug)]
pub struct ModelFacts {
    /// The tokenizer.
    pub vocabulary: Vocabulary,
    /// Where the model comes from.
    pub general: General,
}

impl ModelFacts {
    /// Reads the files of the model in `dir`, whose embeddings have `rows`.
    ///
    /// # Errors
    /// They cannot be read, or the tokenizer has no place in GGUF.
    pub fn read(storage: &dyn ReadStorage, dir: &Path, rows: usize, options: &ExportOptions) -> Result<Self> {
        let files = TokenizerFiles::open(storage, dir)?;
        let pre_tokenizer = match (&options.pre_tokenizer, files.kind()?) {
            (Some(given), TokenizerKind::ByteLevel) => given.clone(),
            (Some(_), TokenizerKind::SentencePiece) => {
                return Err(Error::input("only byte-level BPE tokenizers have a pre-tokenizer's name")
                    .fact("tokenizer", dir.display().to_string()));
            }
            (None, TokenizerKind::ByteLevel) => {
                let tokens = Tokenizer::open(storage, dir)?.encode(CHECK_TEXT)?;
                files.pre_tokenizer(&tokens)?.to_owned()
            }
            (None, TokenizerKind::SentencePiece) => String::new(),
        };
        let name = || dir.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
        let general = General {
            name: options.name.clone().or_else(name).unwrap_or_default(),
            licence: source_licence(storage, dir)?,
            ..General::default()
        };
        Ok(Self { vocabulary: files.vocabulary(rows, &pre_tokenizer)?, general })
    }
}
