//! Malformations of safetensors headers and index files. Parsing is pure, so these errors have no
//! path; [`Error`](crate::Error) adds it.

use crate::dtype::Dtype;
use crate::shown::shown;

/// A malformation of a safetensors header. All positions and sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages show what the fields mean.
pub enum HeaderError {
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// The file is too short for the length of the header.
    #[error("the file has {file_len} bytes, a safetensors file has at least 10")]
    TooShort { file_len: u64 },
    /// The header exceeds the maximum length.
    #[error("the header claims to be {len} bytes long, at most {limit} are allowed")]
    TooLong { len: u64, limit: u64 },
    /// The file ends inside its header.
    #[error("the header ends at byte {header_end}, but the file has only {file_len} bytes")]
    Truncated { header_end: u64, file_len: u64 },
    /// The header is not UTF-8.
    #[error("the header is not UTF-8: bad byte at {at} of the header")]
    NotUtf8 { at: usize },
    /// The header does not start with `{`.
    #[error("the header does not start with `{{`")]
    NotAnObject,
    /// The header is not JSON.
    #[error("the header is not JSON: {message}")]
    NotJson { message: String },
    /// `__metadata__` is not an object of strings.
    #[error("`__metadata__` is not an object of strings: {message}")]
    BadMetadata { message: String },
    /// A field of a tensor's entry is missing or has another type.
    #[error("the entry of tensor `{}` is malformed: {message}", shown(tensor))]
    BadEntry { tensor: String, message: String },
    /// Two entries have the same name.
    #[error("`{}` occurs twice in the header", shown(name))]
    DuplicateName { name: String },
    /// A dtype that the format does not define.
    #[error("tensor `{}` has the unknown dtype `{}`", shown(tensor), shown(found))]
    UnknownDtype { tensor: String, found: String },
    /// The size in bits does not fit into 64 bits.
    #[error("tensor `{}` has a shape of more bytes than can be counted: {dtype} {}", shown(tensor), dims(shape))]
    ShapeOverflow { tensor: String, dtype: Dtype, shape: Vec<u64> },
    /// Elements narrower than a byte do not fill the last one.
    #[error("tensor `{}` is not a whole number of bytes: {dtype} {}", shown(tensor), dims(shape))]
    PartialByte { tensor: String, dtype: Dtype, shape: Vec<u64> },
    /// A tensor ends before it begins.
    #[error("tensor `{}` begins at {begin} and ends before, at {end}", shown(tensor))]
    ReversedOffsets { tensor: String, begin: u64, end: u64 },
    /// Offsets and shape disagree.
    #[error(
        "tensor `{}`, {dtype} {}, needs {expected} bytes, but its offsets span {found}",
        shown(tensor),
        dims(shape)
    )]
    WrongSize { tensor: String, dtype: Dtype, shape: Vec<u64>, expected: u64, found: u64 },
    /// A tensor begins inside the one before it.
    #[error("tensor `{}` begins at {found}, before `{}` ends at {expected}", shown(tensor), shown(previous))]
    Overlap { tensor: String, previous: String, expected: u64, found: u64 },
    /// Bytes between two tensors, or before the first, belong to none.
    #[error(
        "tensor `{}` begins at {found}, expected {expected}: the bytes between belong to no \
        tensor",
        shown(tensor)
    )]
    Gap { tensor: String, expected: u64, found: u64 },
    /// A tensor ends after the file does.
    #[error("tensor `{}` ends at byte {end}, but the file has only {file_len} bytes", shown(tensor))]
    PastEnd { tensor: String, end: u64, file_len: u64 },
    /// Bytes after the last tensor.
    #[error("the file has {file_len} bytes, but its tensors end at {data_end}")]
    TrailingBytes { data_end: u64, file_len: u64 },
}

/// A malformation of a `model.safetensors.index.json`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages show what the fields mean.
pub enum IndexError {
    /// The index exceeds the maximum length.
    #[error("the index has {len} bytes, at most {limit} are allowed")]
    TooLong { len: u64, limit: u64 },
    /// Not JSON, or without `weight_map`.
    #[error("not a valid index: {message}")]
    NotAnIndex { message: String },
    /// A tensor is named twice.
    #[error("tensor `{}` occurs twice in `weight_map`", shown(tensor))]
    DuplicateTensor { tensor: String },
    /// A file name that could lead out of the folder, or that has another ending.
    #[error("tensor `{}` is placed in `{}`, expected the plain name of a {ending} file", shown(tensor), shown(file))]
    BadFileName { tensor: String, file: String, ending: &'static str },
}

fn dims(shape: &[u64]) -> String {
    let shortened = if shape.len() > 16 { ", ..." } else { "" };
    let dims: Vec<String> = shape.iter().take(16).map(u64::to_string).collect();
    format!("[{}{shortened}]", dims.join(", "))
}

/// A malformation of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // What a field holds is what the sentence shows in its place.
pub enum GgufError {
    /// The file begins with something else.
    #[error("this is not a GGUF file")]
    NotGguf,
    /// A version of the format that moerge does not read, or one of a big-endian machine.
    #[error("GGUF version {found} is not supported, only 2 and 3 in little endian")]
    Version { found: u32 },
    /// The file ends inside its header.
    #[error("the file ends before {what}")]
    Truncated { what: &'static str },
    /// More of something than any model has.
    #[error("the header claims {found} {what}")]
    TooMany { what: &'static str, found: u64 },
    /// Two keys or two tensors of one name.
    #[error("the {what} `{}` occurs twice", shown(name))]
    Duplicate { what: &'static str, name: String },
    /// A value of an unknown type, or one that cannot be.
    #[error("the value of `{}` is malformed", shown(key))]
    BadValue { key: String },
    /// Dimensions that give no valid size.
    #[error("tensor `{}` has no valid size", shown(tensor))]
    BadShape { tensor: String },
    /// A tensor whose data lies outside of the file.
    #[error("tensor `{}` ends at byte {end}, but the file has {file_len} bytes", shown(tensor))]
    OutsideFile { tensor: String, end: u64, file_len: u64 },
}
