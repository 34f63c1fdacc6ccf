//! What a GGUF file says besides the weights: the tokenizer, and where the model comes from.

use std::path::Path;

use moerge_checkpoint::ReadStorage;
use moerge_core::{
    error::{Error, Result},
    model::files::{TOKENIZER, read_bytes},
    output::{card::SourceCard, files::OutputFile},
    plan::gguf::{CHECK_TEXT, General, TokenizerFiles, TokenizerKind, Vocabulary, is_pre_tokenizer},
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
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl ModelFacts {
    /// Reads the files of the model in `dir`, whose embeddings have `rows`.
    ///
    /// # Errors
    /// They cannot be read, or the tokenizer has no place in GGUF.
    pub fn read(storage: &dyn ReadStorage, dir: &Path, rows: usize, options: &ExportOptions) -> Result<Self> {
        let files = TokenizerFiles::open(storage, dir)?;
        let tokens = || Tokenizer::open(storage, dir)?.encode(CHECK_TEXT);
        let pre_tokenizer = pre_tokenizer(&files, options, tokens)?;
        let name = || dir.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
        let card = SourceCard::read(storage, dir)?;
        let general = General {
            name: options.name.clone().or(card.name).or_else(name).unwrap_or_default(),
            licence: card.licence,
            base_models: card.base_models,
            tags: card.tags,
            languages: card.languages,
        };
        let warnings = pre_tokenizer_warning(options).into_iter().chain(files.warning()).collect();
        Ok(Self { vocabulary: files.vocabulary(rows, &pre_tokenizer)?, general, warnings })
    }

    /// Those of a merged model that would have `files`, with the tokenizer of the model in `dir` or one made of several.
    ///
    /// # Errors
    /// As [`ModelFacts::read`].
    pub fn merged(
        storage: &dyn ReadStorage,
        dir: &Path,
        files: &[OutputFile],
        rows: usize,
        general: General,
        options: &ExportOptions,
    ) -> Result<Self> {
        let file = |name: &str| files.iter().find(|file| file.name == name).map(|file| file.bytes.clone());
        let parsed = TokenizerFiles::new(dir, |name| Ok(file(name)))?;
        // llama.cpp knows pre-tokenizers by their vocabularies; it has none of those that a merge makes.
        let tokens = || match read_bytes(storage, &dir.join(TOKENIZER)).ok() == file(TOKENIZER) {
            true => Tokenizer::open(storage, dir)?.encode(CHECK_TEXT),
            false => Ok(Vec::new()),
        };
        let pre_tokenizer = pre_tokenizer(&parsed, options, tokens)?;
        let general = General { name: options.name.clone().unwrap_or(general.name), ..general };
        let warnings = pre_tokenizer_warning(options).into_iter().chain(parsed.warning()).collect();
        Ok(Self { vocabulary: parsed.vocabulary(rows, &pre_tokenizer)?, general, warnings })
    }
}

/// A warning about a pre-tokenizer that llama.cpp may not know: it refuses files that name one that it does not have.
fn pre_tokenizer_warning(options: &ExportOptions) -> Option<String> {
    let name = options.pre_tokenizer.as_deref().filter(|name| !is_pre_tokenizer(name))?;
    Some(format!("the llama.cpp that moerge was compared with knows no pre-tokenizer `{name}`, and refuses such files"))
}

fn pre_tokenizer(
    files: &TokenizerFiles,
    options: &ExportOptions,
    tokens: impl Fn() -> Result<Vec<u32>>,
) -> Result<String> {
    match (&options.pre_tokenizer, files.kind()?) {
        (Some(given), TokenizerKind::ByteLevel) => Ok(given.clone()),
        (Some(_), TokenizerKind::SentencePiece) => Err(Error::input(
            "only byte-level BPE has named pre-tokenizers, and this model's tokenizer is SentencePiece's",
        )),
        (None, TokenizerKind::ByteLevel) => Ok(files.pre_tokenizer(&tokens()?)?.to_owned()),
        (None, TokenizerKind::SentencePiece) => Ok(String::new()),
    }
}
