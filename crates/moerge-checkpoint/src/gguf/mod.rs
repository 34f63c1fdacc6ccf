//! GGUF, the file format of llama.cpp and its relatives, version 3, little endian
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>).
//!
//! A file is a header (metadata as keys with typed values, and the list of tensors) and the tensors' data, each at a
//! multiple of 32 bytes.

mod header;
mod layout;
mod read;
mod value;

pub use header::{ALIGNMENT, TensorInfo};
pub use layout::layout;
pub use read::{GgufFile, GgufTensor};
pub use value::{Metadata, Value, ValueType};

/// The first bytes of every file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// The version that is written.
pub const VERSION: u32 = 3;
