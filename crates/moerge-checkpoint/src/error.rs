//! Everything that can go wrong with the bytes, as one clear sentence each: which file, which
//! tensor, what was expected and what was found. What to do about it is a separate sentence,
//! [`Error::hint`].

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

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. [`Display`](std::fmt::Display) says all of it in one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // What a field holds is what the sentence shows in its place.
pub enum Error {
    // Any file
    /// The system refused an operation on a file or folder.
    #[error("cannot {operation} {}: {problem}", path.display())]
    Io { operation: &'static str, path: PathBuf, problem: io::Error },
    /// A file name that is not plain: it could lead out of its folder.
    #[error("`{}` is not a plain file name", shown(name))]
    BadFileName { name: String },

    // Reading a checkpoint
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
    /// A small text file that git-lfs leaves in place of the real one.
    #[error("{} is a git-lfs pointer, not the weights themselves", file.display())]
    LfsPointer { file: PathBuf },
    /// A symbolic link that leads nowhere, as caches leave behind.
    #[error("{} is a link to a file that is not there", file.display())]
    BrokenLink { file: PathBuf },
    /// The folder holds no safetensors model.
    #[error("{} holds no safetensors model{}", folder.display(), found_instead(found))]
    NoSafetensors { folder: PathBuf, found: Vec<String> },
    /// A shard that the index or the other shards' names call for is not there.
    #[error("{} is missing, but {called_for_by} calls for it", file.display())]
    ShardMissing { file: PathBuf, called_for_by: String },
    /// The shards in a folder without an index are of more than one set.
    #[error("{} holds shards of more than one model: {first} and {second}", folder.display())]
    MixedShards { folder: PathBuf, first: String, second: String },
    /// The index places a tensor in a file that does not have it.
    #[error(
        "{}: tensor `{}` is not in this file, but the index says so", file.display(), shown(tensor)
    )]
    TensorNotInShard { tensor: String, file: PathBuf },
    /// A shard has a tensor that the index does not name.
    #[error("{}: tensor `{}` is not in the index", file.display(), shown(tensor))]
    TensorNotInIndex { tensor: String, file: PathBuf },
    /// Two shards have a tensor of the same name.
    #[error("tensor `{}` is in both {} and {}", shown(tensor), first.display(), second.display())]
    TensorInTwoFiles { tensor: String, first: PathBuf, second: PathBuf },
    /// A source file is not the one that was opened.
    #[error("{} changed during the build: {what}", file.display())]
    SourceChanged { file: PathBuf, what: String },

    // Using a tensor
    /// Bytes outside of a tensor were asked for or written.
    #[error("tensor `{}` has {tensor_len} bytes; {len} bytes at {offset} are outside of it", shown(tensor))]
    OutOfBounds { tensor: String, offset: u64, len: u64, tensor_len: u64 },
    /// Rows that a tensor does not have, or that do not start at whole bytes.
    #[error("tensor `{}` of shape {shape:?} has no rows {start} to {end}", shown(tensor))]
    NoSuchRows { tensor: String, shape: Vec<usize>, start: usize, end: usize },
    /// A tensor is too large to be held in memory.
    #[error("tensor `{}` has {len} bytes, too many for this machine's memory", shown(tensor))]
    TooLargeForMemory { tensor: String, len: u64 },

    // Laying out and writing a checkpoint
    /// Two output tensors have the same name.
    #[error("two output tensors are named `{}`", shown(tensor))]
    DuplicateOutput { tensor: String },
    /// A name that the format keeps for itself.
    #[error("an output tensor is named `{tensor}`, which the safetensors format reserves")]
    ReservedName { tensor: String },
    /// An output tensor has no valid size.
    #[error("output tensor `{}`, {encoding} {shape:?}, is {problem}", shown(tensor))]
    BadOutputSize { tensor: String, encoding: Encoding, shape: Vec<usize>, problem: BadSize },
    /// A type that safetensors, or GGUF, does not have.
    #[error("output tensor `{}` is of type {encoding}, which {format} does not have", shown(tensor))]
    EncodingNotInFormat { tensor: String, encoding: Encoding, format: &'static str },
    /// The tensors of one shard need a header that no reader accepts, or more bytes than a file
    /// can have.
    #[error("a shard of {tensors} tensors is too large: {what}")]
    ShardTooLarge { tensors: usize, what: String },
    /// A shard was to be finished before all its bytes were written.
    #[error(
        "{}: tensor `{}` is not complete: {written} of {expected} bytes were written",
        file.display(), shown(tensor)
    )]
    TensorUnfinished { file: PathBuf, tensor: String, written: u64, expected: u64 },
    /// The fingerprints given for a shard are not those of its tensors in their order.
    #[error("{}: fingerprint {position} is of `{}`, expected `{}`", file.display(), shown(found),
        shown(expected))]
    WrongFingerprints { file: PathBuf, position: usize, expected: String, found: String },
    /// A folder was to be published with a file in it that is still being written.
    #[error("{} is not finished", file.display())]
    Unfinished { file: PathBuf },

    // The output folder
    /// The output path does not end in a name.
    #[error("`{}` cannot be the output folder: it has no name of its own", out.display())]
    OutputUnnamed { out: PathBuf },
    /// The output path is taken by a file.
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
    /// The output folder is the root of another file system, so nothing can be renamed to it.
    #[error("the output folder {} is a mount point", out.display())]
    OutputIsMountPoint { out: PathBuf },
    /// Another process is building the same output folder.
    #[error("another process is building {}", out.display())]
    Locked { out: PathBuf },
    /// What lies where the work folder goes is not one that moerge made, or holds something that
    /// moerge did not put there.
    #[error("{} is not a work folder that moerge made: {why}", work.display())]
    NotAWorkFolder { work: PathBuf, why: String },
    /// The old output was moved aside, the build was cut off, and then something else was put in
    /// its place.
    #[error(
        "{} is in the way: the output folder that was there before lies in {}",
        out.display(), aside.display()
    )]
    OutputInTheWay { out: PathBuf, aside: PathBuf },
    /// The new output is in its place and complete, but the work folder could not be removed.
    #[error("{} is complete, but {} could not be removed: {problem}", out.display(), work.display())]
    Cleanup { out: PathBuf, work: PathBuf, problem: Box<Error> },
}

impl Error {
    /// An I/O error with what was tried, as the words after "cannot", and on what.
    pub fn io(operation: &'static str, path: &Path, problem: io::Error) -> Error {
        Error::Io { operation, path: path.to_owned(), problem }
    }

    /// What the system said, if it was the system.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Error::Io { problem, .. } => Some(problem.kind()),
            Error::Pickle { problem: PickleError::Read(_, kind), .. } => Some(*kind),
            Error::Cleanup { problem, .. } => problem.io_kind(),
            _ => None,
        }
    }

    /// Whether the disk, or the user's share of it, is full.
    pub fn is_no_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self.io_kind(), Some(StorageFull | QuotaExceeded))
    }
}

/// For `map_err`: what was tried on which path.
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
