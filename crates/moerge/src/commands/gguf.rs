//! Arguments for writing GGUF files, which `export` and `merge` share.

use std::path::{Path, PathBuf};

pub use moerge_core::model::gguf::is_gguf;
use moerge_core::{
    Error, Result,
    plan::gguf::{FileType, TypeRule, read_pre_tokenizer, uses_importance},
};
use moerge_lib::{
    export::{ExportOptions, Imatrix, ImatrixSource, MadeFile},
    memory::StorageMemory,
};
use serde_json::{Value, json};

use super::folder;
use crate::{numbers::bytes, sizes, terminal::path_text};

/// How a GGUF file is written.
#[derive(Debug, Clone, clap::Args)]
pub struct GgufArgs {
    /// Types of the weights in a GGUF file: f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q5_1, q5_0, q4_k_m, q4_k_s, q4_1,
    /// q4_0, iq4_nl, iq4_xs, q3_k_l, q3_k_m, q3_k_s, q2_k or q2_k_s. Repeat to write a file of each type,
    /// OUT-TYPE.gguf, in one pass over the weights
    #[arg(long, value_name = "TYPE", value_parser = FileType::parse)]
    quant: Vec<FileType>,
    /// Split a file with more bytes of weights than this: 2GB makes OUT-00001-of-00003.gguf and so on
    #[arg(long, value_name = "SIZE", value_parser = sizes::bytes)]
    max_size: Option<u64>,
    /// Another type for the tensors whose GGUF names match a regular expression; the first match wins
    #[arg(long, value_name = "REGEX=TYPE", value_parser = TypeRule::parse)]
    tensor_type: Vec<TypeRule>,
    /// The model's name in a GGUF file [default: `model_name` in its card, its folder's name, or that of OUT]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// llama.cpp's name of the pre-tokenizer, where it is not recognized
    #[arg(long, value_name = "NAME", value_parser = read_pre_tokenizer)]
    pre: Option<String>,
    /// Importance matrix for quantisation: a file of llama-imatrix, or `self` to measure it on text that the experts, or
    /// the model itself, generate
    #[arg(long, value_name = "FILE|self")]
    imatrix: Option<PathBuf>,
    /// Measure the importance matrix on these texts
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "imatrix")]
    imatrix_text: Vec<PathBuf>,
    /// Also write the importance matrix
    #[arg(long, value_name = "FILE.gguf")]
    imatrix_out: Option<PathBuf>,
}

impl GgufArgs {
    /// The library's options for writing the file `out`.
    ///
    /// # Errors
    /// No type is given, or one twice.
    pub fn options(&self, out: &Path) -> Result<ExportOptions> {
        if self.quant.is_empty() {
            let message = format!("{} is a GGUF file, and no type is given for its weights", path_text(out));
            return Err(Error::input(message).hint("--quant q4_k_m is small and good, --quant bf16 keeps all of it"));
        }
        if let Some(twice) = (1..self.quant.len()).find(|at| self.quant[..*at].contains(&self.quant[*at])) {
            return Err(Error::input(format!("--quant {} is given twice", self.quant[twice].name())));
        }
        Ok(ExportOptions {
            file_types: self.quant.clone(),
            max_bytes: self.max_size,
            rules: self.tensor_type.clone(),
            pre_tokenizer: self.pre.clone(),
            imatrix: self.imatrix_source()?,
            imatrix_out: self.imatrix_out.as_deref().map(folder),
            name: self.name.clone(),
            force: false,
            threads: None,
            memory: None,
            storages: StorageMemory::default(),
        })
    }

    /// The same for a plan, with the importance matrix.
    ///
    /// # Errors
    /// As those of [`GgufArgs::options_by_name`], or the importance matrix or its texts cannot be read.
    pub fn plan_options(&self, out: &Path) -> Result<Option<(ExportOptions, Option<Imatrix>)>> {
        let Some(options) = self.options_by_name(out)? else { return Ok(None) };
        let imatrix = options.imatrix.as_ref().map(Imatrix::open).transpose()?;
        Ok(Some((options, imatrix)))
    }

    /// What is kept of the output `out` of a run that was stopped.
    pub fn kept(&self, out: &Path) -> &'static str {
        match is_gguf(out) && self.max_size.is_none() {
            // Each type is one shard.
            true => "its weights start over, and what was computed before them is kept",
            false => "finished work is kept",
        }
    }

    fn imatrix_source(&self) -> Result<Option<ImatrixSource>> {
        let measured = self.imatrix.is_some() || !self.imatrix_text.is_empty();
        let of_rules = self.tensor_type.iter().any(|rule| uses_importance(rule.encoding));
        let used = of_rules || self.quant.iter().any(|file_type| file_type.uses_importance());
        if measured && !used && self.imatrix_out.is_none() {
            let types: Vec<&str> = self.quant.iter().map(|file_type| file_type.name()).collect();
            return Err(Error::input(format!("an importance matrix changes nothing in {}", types.join(" and ")))
                .hint("leave it out, or choose a smaller type such as --quant q4_k_m"));
        }
        let texts = || self.imatrix_text.iter().map(|path| folder(path)).collect();
        match self.imatrix.as_deref() {
            Some(path) if path == Path::new("self") => Ok(Some(ImatrixSource::OwnText)),
            Some(path) => Ok(Some(ImatrixSource::File(folder(path)))),
            None if !self.imatrix_text.is_empty() => Ok(Some(ImatrixSource::Texts(texts()))),
            None if self.imatrix_out.is_some() => {
                Err(Error::input("--imatrix-out writes an importance matrix, and none is asked for")
                    .hint("add --imatrix self or --imatrix-text FILE"))
            }
            None => Ok(None),
        }
    }

    /// The library's options where the name of `out` ends in `.gguf`.
    ///
    /// # Errors
    /// No type is given, or one is and `out` is another kind of file.
    pub fn options_by_name(&self, out: &Path) -> Result<Option<ExportOptions>> {
        if is_gguf(out) {
            return self.options(out).map(Some);
        }
        let imatrix = self.imatrix.is_some() || !self.imatrix_text.is_empty() || self.imatrix_out.is_some();
        let names = self.name.is_some() || self.pre.is_some() || !self.tensor_type.is_empty();
        if imatrix || names || !self.quant.is_empty() || self.max_size.is_some() {
            let options = "--quant, --max-size, --tensor-type, --imatrix, --name and --pre";
            let message = format!("{options} are for GGUF files, and {} is not one", path_text(out));
            return Err(Error::input(message).hint("end the output's name in .gguf"));
        }
        Ok(None)
    }
}

/// The type and the size of a file, and the number of its parts.
pub fn size(file: &MadeFile) -> String {
    let parts = if file.parts > 1 { format!(" in {} files", file.parts) } else { String::new() };
    format!("{}, {}{parts}", file.file_type.name(), bytes(file.bytes))
}

/// The event with what it says of files, if there are any.
pub fn with_files(mut event: Value, files: &[MadeFile]) -> Value {
    let file = |file: &MadeFile| {
        json!({
            "out": file.path, "quant": file.file_type.name(), "parts": file.parts, "bytes": file.bytes,
            "already_there": file.already_there,
        })
    };
    if !files.is_empty() {
        event["files"] = files.iter().map(file).collect();
    }
    event
}
