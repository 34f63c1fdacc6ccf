//! What can be wrong inside a safetensors header and inside an index file. These know no path:
//! parsing is pure, and [`Error`](crate::Error) adds the file.

use crate::dtype::Dtype;

/// A malformation of a safetensors header. All positions and sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// No room for the 8 bytes that say how long the header is.
    #[error("the file has {file_len} bytes, a safetensors file has at least 10")]
    TooShort {
        /// Length of the file.
        file_len: u64,
    },
    /// The header is longer than any reader accepts.
    #[error("the header claims to be {len} bytes long, at most {limit} are allowed")]
    TooLong {
        /// Claimed length.
        len: u64,
        /// [`MAX_HEADER_BYTES`](crate::MAX_HEADER_BYTES).
        limit: u64,
    },
    /// The file ends inside its header.
    #[error("the header ends at byte {header_end}, but the file has only {file_len} bytes")]
    Truncated {
        /// Where the header should end.
        header_end: u64,
        /// Length of the file.
        file_len: u64,
    },
    /// The header is not text.
    #[error("the header is not UTF-8: bad byte at {at} of the header")]
    NotUtf8 {
        /// Position in the header.
        at: usize,
    },
    /// The header does not start with `{`.
    #[error("the header does not start with `{{`")]
    NotAnObject,
    /// The header is not JSON.
    #[error("the header is not JSON: {message}")]
    NotJson {
        /// The parser's words.
        message: String,
    },
    /// `__metadata__` is not an object of strings.
    #[error("`__metadata__` is not an object of strings: {message}")]
    BadMetadata {
        /// The parser's words.
        message: String,
    },
    /// A tensor's entry lacks a field or has one of another type.
    #[error("the entry of tensor `{}` is malformed: {message}", shown(tensor))]
    BadEntry {
        /// The tensor.
        tensor: String,
        /// The parser's words.
        message: String,
    },
    /// Two entries have the same name.
    #[error("`{}` occurs twice in the header", shown(name))]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A type that the format does not have.
    #[error("tensor `{}` has the unknown dtype `{}`", shown(tensor), shown(found))]
    UnknownDtype {
        /// The tensor.
        tensor: String,
        /// The type as written.
        found: String,
    },
    /// The size of the shape does not fit 64 bits.
    #[error("tensor `{}` has a shape of more bytes than can be counted: {dtype} {}", shown(tensor), dims(shape))]
    ShapeOverflow {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// Elements narrower than a byte do not fill the last one.
    #[error("tensor `{}` is not a whole number of bytes: {dtype} {}", shown(tensor), dims(shape))]
    PartialByte {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A tensor ends before it begins.
    #[error("tensor `{}` begins at {begin} and ends before, at {end}", shown(tensor))]
    ReversedOffsets {
        /// The tensor.
        tensor: String,
        /// Its begin, from the start of the data.
        begin: u64,
        /// Its end.
        end: u64,
    },
    /// Offsets and shape disagree.
    #[error(
        "tensor `{}`, {dtype} {}, needs {expected} bytes, but its offsets span {found}",
        shown(tensor),
        dims(shape)
    )]
    WrongSize {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<u64>,
        /// Bytes by shape and type.
        expected: u64,
        /// Bytes by offsets.
        found: u64,
    },
    /// A tensor begins inside the one before it.
    #[error("tensor `{}` begins at {found}, before `{}` ends at {expected}", shown(tensor), shown(previous))]
    Overlap {
        /// The tensor.
        tensor: String,
        /// The one before it.
        previous: String,
        /// Where it may begin.
        expected: u64,
        /// Where it begins.
        found: u64,
    },
    /// Bytes between two tensors, or before the first, belong to none.
    #[error(
        "tensor `{}` begins at {found}, expected {expected}: the bytes between belong to no \
        tensor",
        shown(tensor)
    )]
    Gap {
        /// The tensor.
        tensor: String,
        /// Where it should begin.
        expected: u64,
        /// Where it begins.
        found: u64,
    },
    /// A tensor ends after the file does.
    #[error("tensor `{}` ends at byte {end}, but the file has only {file_len} bytes", shown(tensor))]
    PastEnd {
        /// The tensor.
        tensor: String,
        /// Its end, from the start of the file.
        end: u64,
        /// Length of the file.
        file_len: u64,
    },
    /// Bytes after the last tensor.
    #[error("the file has {file_len} bytes, but its tensors end at {data_end}")]
    TrailingBytes {
        /// Where the last tensor ends, from the start of the file.
        data_end: u64,
        /// Length of the file.
        file_len: u64,
    },
}

/// A malformation of a `model.safetensors.index.json`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Longer than any real index.
    #[error("the index has {len} bytes, at most {limit} are allowed")]
    TooLong {
        /// Length of the file.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// Not JSON, or without `weight_map`.
    #[error("not a valid index: {message}")]
    NotAnIndex {
        /// The parser's words.
        message: String,
    },
    /// A tensor is named twice.
    #[error("tensor `{}` occurs twice in `weight_map`", shown(tensor))]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// A file name that could lead out of the folder, or that is no safetensors file.
    #[error(
        "tensor `{}` is placed in `{}`, expected the plain name of a .safetensors file",
        shown(tensor),
        shown(file)
    )]
    BadFileName {
        /// The tensor.
        tensor: String,
        /// The name as written.
        file: String,
    },
}

/// A name from outside as it may be printed: control characters escaped, shortened if endless.
pub(crate) fn shown(name: &str) -> String {
    const LIMIT: usize = 200;
    let mut text: String = name.chars().take(LIMIT).flat_map(char::escape_debug).collect();
    if name.chars().nth(LIMIT).is_some() {
        text.push_str("...");
    }
    text
}

fn dims(shape: &[u64]) -> String {
    let shortened = if shape.len() > 16 { ", ..." } else { "" };
    let dims: Vec<String> = shape.iter().take(16).map(u64::to_string).collect();
    format!("[{}{shortened}]", dims.join(", "))
}
