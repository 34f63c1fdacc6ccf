//! The errors of this crate. Each message is one sentence with the file, the tensor, what was
//! expected and what was found; advice is separate, in [`Error::hint`].

use std::io;
use std::path::{Path, PathBuf};

mod format;
mod hint;
mod pickle;

pub use format::{GgufError, HeaderError, IndexError};
pub use pickle::PickleError;

use crate::dtype::BadSize;
use crate::encoding::Encoding;
use crate::shown::shown;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error type of this crate. [`Display`](std::fmt::Display) is one complete sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages show what the fields mean.
pub enum Error {
    // Any file.
    /// The system refused an operation on a file or folder.
    #[error("cannot {operation} {}: {problem}", path.display())]
    Io { operation: &'static str, path: PathBuf, problem: io::Error },
    /// A file name that could lead out of its folder.
    #[error("`{}` is not a plain file name", shown(name))]
    BadFileName { name: String },

    // Reading a checkpoint.
    /// A safetensors file whose header breaks the format.
    #[error("{}: {problem}", file.display())]
    Header { file: PathBuf, problem: HeaderError },
    /// A GGUF file that breaks the format.
    #[error("{}: {problem}", file.display())]
    Gguf { file: PathBuf, problem: GgufError },
    /// A `model.safetensors.index.json` that breaks its format.
    #[error("{}: {problem}", file.display())]
    Index { file: PathBuf, problem: IndexError },
    /// A `pytorch_model.bin` that is damaged, or does more than hold weights.
    #[error("{}: {problem}", file.display())]
    Pickle { file: PathBuf, problem: PickleError },
    /// Nothing is at the path of a model folder.
    #[error("{} does not exist", folder.display())]
    FolderMissing { folder: PathBuf },
    /// The path of a model folder leads to something else.
    #[error("{} is not a folder", path.display())]
    NotAFolder { path: PathBuf },
    /// The path of a file leads to something else, such as a folder or a pipe.
    #[error("{} is not a file", path.display())]
    NotAFile { path: PathBuf },
    /// A git-lfs pointer file in place of the real one.
    #[error("{} is a git-lfs pointer, not the weights themselves", file.display())]
    LfsPointer { file: PathBuf },
    /// A dangling symbolic link, as caches leave behind.
    #[error("{} is a link to a file that is not there", file.display())]
    BrokenLink { file: PathBuf },
    /// The folder holds no safetensors model.
    #[error("{} holds no safetensors model{}", folder.display(), found_instead(found))]
    NoSafetensors { folder: PathBuf, found: Vec<String> },
    /// A shard that the index or the names of the other shards require is missing.
    #[error("{} is missing, but {called_for_by} requires it", file.display())]
    ShardMissing { file: PathBuf, called_for_by: String },
    /// A folder without an index contains shards of more than one set.
    #[error("{} holds shards of more than one model: {first} and {second}", folder.display())]
    MixedShards { folder: PathBuf, first: String, second: String },
    /// The index assigns a tensor to a file that does not contain it.
    #[error(
        "{}: tensor `{}` is not in this file, but the index says so", file.display(), shown(tensor)
    )]
    TensorNotInShard { tensor: String, file: PathBuf },
    /// A shard contains a tensor that is not in the index.
    #[error("{}: tensor `{}` is not in the index", file.display(), shown(tensor))]
    TensorNotInIndex { tensor: String, file: PathBuf },
    /// Two shards contain tensors of the same name.
    #[error("tensor `{}` is in both {} and {}", shown(tensor), first.display(), second.display())]
    TensorInTwoFiles { tensor: String, first: PathBuf, second: PathBuf },
    /// A source file changed after it was opened.
    #[error("{} changed during the build: {what}", file.display())]
    SourceChanged { file: PathBuf, what: String },

    // Using a tensor.
    /// Bytes outside a tensor were read or written.
    #[error("tensor `{}` has {tensor_len} bytes; {len} bytes at {offset} are outside of it", shown(tensor))]
    OutOfBounds { tensor: String, offset: u64, len: u64, tensor_len: u64 },
    /// Rows outside a tensor, or rows that do not start at a whole byte.
    #[error("tensor `{}` of shape {shape:?} has no rows {start} to {end}", shown(tensor))]
    NoSuchRows { tensor: String, shape: Vec<usize>, start: usize, end: usize },
    /// A tensor does not fit into memory.
    #[error("tensor `{}` has {len} bytes, too many for this machine's memory", shown(tensor))]
    TooLargeForMemory { tensor: String, len: u64 },

    // Laying out and writing a checkpoint.
    /// Two output tensors have the same name.
    #[error("two output tensors are named `{}`", shown(tensor))]
    DuplicateOutput { tensor: String },
    /// A tensor name that the format reserves.
    #[error("an output tensor is named `{tensor}`, which the safetensors format reserves")]
    ReservedName { tensor: String },
    /// An output tensor has no valid size.
    #[error("output tensor `{}`, {encoding} {shape:?}, is {problem}", shown(tensor))]
    BadOutputSize { tensor: String, encoding: Encoding, shape: Vec<usize>, problem: BadSize },
    /// A type that safetensors, or GGUF, does not have.
    #[error("output tensor `{}` is of type {encoding}, which {format} does not have", shown(tensor))]
    EncodingNotInFormat { tensor: String, encoding: Encoding, format: &'static str },
    /// The tensors of a shard exceed the limits of the header's or the file's size.
    #[error("a shard of {tensors} tensors is too large: {what}")]
    ShardTooLarge { tensors: usize, what: String },
    /// A shard was finished before all its bytes were written.
    #[error(
        "{}: tensor `{}` is not complete: {written} of {expected} bytes were written",
        file.display(), shown(tensor)
    )]
    TensorUnfinished { file: PathBuf, tensor: String, written: u64, expected: u64 },
    /// The fingerprints passed for a shard are not those of its tensors in their order.
    #[error("{}: fingerprint {position} is of `{}`, expected `{}`", file.display(), shown(found),
        shown(expected))]
    WrongFingerprints { file: PathBuf, position: usize, expected: String, found: String },
    /// A folder was published with an unfinished file in it.
    #[error("{} is not finished", file.display())]
    Unfinished { file: PathBuf },

    // The output folder.
    /// The output path has no last component.
    #[error("`{}` cannot be the output folder: it has no name of its own", out.display())]
    OutputUnnamed { out: PathBuf },
    /// The output path is a file.
    #[error("the output {} exists and is not a folder", out.display())]
    OutputIsFile { out: PathBuf },
    /// The output file exists.
    #[error("the output {} exists", out.display())]
    OutputFileExists { out: PathBuf },
    /// Where a file is to be is something else.
    #[error("the output {} exists and is not a file", out.display())]
    OutputIsNoFile { out: PathBuf },
    /// The output folder exists and is not empty.
    #[error("the output folder {} exists and is not empty", out.display())]
    OutputExists { out: PathBuf },
    /// The output folder is a mount point, so it cannot be replaced by a rename.
    #[error("the output folder {} is a mount point", out.display())]
    OutputIsMountPoint { out: PathBuf },
    /// Another process is building the same output folder.
    #[error("another process is building {}", out.display())]
    Locked { out: PathBuf },
    /// An object store holds an unfinished build of another plan, which may still be running.
    #[error("{} holds an unfinished build of another recipe, other sources or another version", out.display())]
    OtherPlanUnfinished { out: PathBuf, work: PathBuf },
    /// Another process took over an output in an object store.
    #[error("another process has begun to build {} from another plan", out.display())]
    TakenOver { out: PathBuf },
    /// The path of the work folder is taken by something that moerge did not make, or the work folder
    /// contains something that moerge did not put there.
    #[error("{} is not a work folder that moerge made: {why}", work.display())]
    NotAWorkFolder { work: PathBuf, why: String },
    /// The old output was moved aside, the build was interrupted, and then something else was put in its
    /// place.
    #[error(
        "{} is in the way: the output folder that was there before lies in {}",
        out.display(), aside.display()
    )]
    OutputInTheWay { out: PathBuf, aside: PathBuf },
    /// The new output is complete and in place, but the work folder could not be removed.
    #[error("{} is complete, but {} could not be removed: {problem}", out.display(), work.display())]
    Cleanup { out: PathBuf, work: PathBuf, problem: Box<Error> },
}

impl Error {
    /// An I/O error: `operation` follows "cannot" in the message.
    pub fn io(operation: &'static str, path: &Path, problem: io::Error) -> Error {
        Error::Io { operation, path: path.to_owned(), problem }
    }

    /// The kind of an I/O error.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Error::Io { problem, .. } => Some(problem.kind()),
            Error::Pickle { problem: PickleError::Read(_, kind), .. } => Some(*kind),
            Error::Cleanup { problem, .. } => problem.io_kind(),
            _ => None,
        }
    }

    /// Whether the disk or the user's quota is full.
    pub fn is_no_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self.io_kind(), Some(StorageFull | QuotaExceeded))
    }
}

/// For `map_err`: an I/O error with the operation and the path.
pub(crate) fn io_at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |problem| Error::io(operation, path, problem)
}

fn found_instead(found: &[String]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let names: Vec<String> = found.iter().take(4).map(|name| shown(name)).collect();
    format!(", only {}{}", names.join(", "), if found.len() > 4 { ", ..." } else { "" })
}
