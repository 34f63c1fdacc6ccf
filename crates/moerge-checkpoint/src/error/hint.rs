//! Advice for errors: the text after `hint:`.

use std::io::ErrorKind;

use super::PickleError;
use super::{Error, GgufError, HeaderError, IndexError};
use crate::storage::StorageError;

impl Error {
    /// One sentence of advice, without the word "hint".
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            // Advice about disks does not apply to a storage that gives its own.
            Error::Io { problem, .. } => return StorageError::hint_of(problem).or_else(|| io_hint(problem.kind())),
            Error::Header { problem, .. } => return header_hint(problem),
            Error::Gguf { problem, .. } => match problem {
                GgufError::Truncated { .. } | GgufError::OutsideFile { .. } => {
                    "the file is not complete; copy or download it again"
                }
                GgufError::Version { .. } => "convert the model again with a current llama.cpp",
                _ => "copy or download it again",
            },
            Error::Pickle { problem, .. } => return Some(pickle_hint(problem)),
            Error::Index { problem, .. } => match problem {
                IndexError::BadFileName { .. } => {
                    "shards lie in the folder of the index; a path that leads elsewhere is refused"
                }
                _ => "download the index again",
            },
            Error::NotAFolder { path } => match path.extension().and_then(|extension| extension.to_str()) {
                Some("safetensors") => "give the folder that holds config.json and this file",
                _ => "give the folder that holds config.json and the weights",
            },
            Error::BrokenLink { .. } => "the cache that it points into was cleaned; download it again",
            Error::LfsPointer { .. } => "run `git lfs pull` in that folder, or download it again",
            Error::NoSafetensors { found, .. } => return Some(other_format_hint(found)),
            Error::ShardMissing { .. } => "the download is incomplete; download this file again",
            Error::MixedShards { .. } => "remove the shards that do not belong, or add model.safetensors.index.json",
            Error::TensorNotInShard { .. } | Error::TensorNotInIndex { .. } => {
                "index and shards are of different versions; download the model again"
            }
            Error::TensorInTwoFiles { .. } => "a shard of another model may lie in this folder",
            Error::SourceChanged { .. } => {
                "leave the models alone while they are being read, then run the command again"
            }
            Error::ShardTooLarge { .. } => "choose a smaller shard size",
            Error::OutputUnnamed { .. } => "give a folder by its name, such as `out`",
            Error::OutputIsFile { .. } => "choose another name",
            Error::OutputExists { .. } | Error::OutputFileExists { .. } | Error::OutputIsNoFile { .. } => {
                "choose another name"
            }
            Error::OutputIsMountPoint { .. } => "give a folder inside of it",
            Error::OtherPlanUnfinished { .. } => "rerun the command that began it to finish it, or choose another name",
            Error::TakenOver { .. } => "let it finish, or choose another name",
            Error::Locked { .. } => "wait for it, or choose another name",
            Error::NotAWorkFolder { .. } => "nothing in it was touched; move it away, or choose another output folder",
            Error::OutputInTheWay { .. } => "move one of them to another place, then run again",
            Error::Cleanup { .. } => "the work folder can be removed by hand",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn pickle_hint(problem: &PickleError) -> String {
    let hint = match problem {
        PickleError::Unknown(_) => {
            "nothing of it was run. If you trust the file, load it once with the program that wrote it, then save the weights \
             as safetensors"
        }
        PickleError::Dangerous(_) | PickleError::Opcode { .. } => {
            "loading it in Python would run that; nothing of it was run here. Ask for the model in safetensors"
        }
        PickleError::NotATensor { .. } | PickleError::NotADict(_) => {
            "it may be a checkpoint of a training; the model itself is what `save_pretrained` writes"
        }
        PickleError::Legacy | PickleError::Strides { .. } => {
            "load it once with transformers, then save_pretrained(..., safe_serialization=True)"
        }
        _ => "the download is incomplete or damaged; download this file again",
    };
    hint.to_owned()
}

fn io_hint(kind: ErrorKind) -> Option<String> {
    let hint = match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space, then rerun the command to resume",
        ErrorKind::FileTooLarge => {
            "a limit on the size of files was hit (ulimit -f, or the file system's own): choose a \
             smaller shard size"
        }
        ErrorKind::PermissionDenied => "check who owns it and who may write there",
        ErrorKind::ReadOnlyFilesystem => "choose a folder on a disk that can be written to",
        ErrorKind::UnexpectedEof => "the file became shorter while it was being read",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn header_hint(problem: &HeaderError) -> Option<String> {
    let hint = match problem {
        HeaderError::Empty
        | HeaderError::TooShort { .. }
        | HeaderError::Truncated { .. }
        | HeaderError::PastEnd { .. } => "the download is incomplete; download this file again",
        HeaderError::TooLong { .. } | HeaderError::NotAnObject | HeaderError::NotUtf8 { .. } => {
            "is it a safetensors file? If so it is damaged; download it again"
        }
        HeaderError::UnknownDtype { .. } => "it may need a newer version of this program",
        HeaderError::BadMetadata { .. } => "metadata values must be strings",
        _ => "the file is damaged, or was not written by a safetensors library",
    };
    Some(hint.to_owned())
}

fn other_format_hint(found: &[String]) -> String {
    let has = |matches: fn(&str) -> bool| found.iter().any(|name| matches(name));
    let hint = if has(|name| name.starts_with("adapter_model.")) {
        "this is an adapter (LoRA), not a whole model"
    } else if has(|name| name.ends_with(".gguf")) {
        "give the GGUF file itself, or the original safetensors folder"
    } else if has(|name| !name.ends_with(".safetensors")) {
        "expected safetensors, or pytorch_model.bin with its shards; other formats are converted by \
         transformers: save_pretrained(..., safe_serialization=True)"
    } else {
        "expected model.safetensors or pytorch_model.bin, or an index of shards (model.safetensors.index.json)"
    };
    hint.to_owned()
}
