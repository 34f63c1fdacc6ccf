//! The header of a file, as bytes.

use super::{
    MAGIC, VERSION,
    value::{Metadata, write_string},
};

/// The data of every tensor begins at a multiple of so many bytes.
pub const ALIGNMENT: u64 = 32;

/// A tensor in the header's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its dimensions, the fastest first: the reverse of a shape.
    pub dims: Vec<u64>,
    /// The number of its type.
    pub ggml_type: u32,
    /// Its first byte, from the start of the data.
    pub offset: u64,
}

/// The next multiple of [`ALIGNMENT`].
pub(super) fn align(offset: u64) -> u64 {
    offset.next_multiple_of(ALIGNMENT)
}

/// The header of a file, padded to where its data begins.
pub(super) fn encode(metadata: &Metadata, tensors: &[TensorInfo]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        write_string(&mut out, key);
        out.extend((value.value_type() as u32).to_le_bytes());
        value.write(&mut out);
    }
    for TensorInfo { name, dims, ggml_type, offset } in tensors {
        write_string(&mut out, name);
        out.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
        out.extend(ggml_type.to_le_bytes());
        out.extend(offset.to_le_bytes());
    }
    let padded = align(out.len() as u64);
    out.resize(usize::try_from(padded).unwrap_or(out.len()), 0);
    out
}
