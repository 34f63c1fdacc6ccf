//! The header of a safetensors file: its length in 8 bytes (little-endian), then JSON with the name,
//! type, shape and offsets of every tensor; the data follows without gaps. The parser is as strict
//! as the reference implementation, and also refuses duplicate names; the writer is deterministic.
//!
//! Format: <https://github.com/huggingface/safetensors#format>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::dtype::{BadSize, Dtype};
use crate::error::{HeaderError, Result};
use crate::json_entries::Entries;

/// The maximum length of a header in bytes, as in the reference implementation.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The number of bytes of the length before the JSON.
pub(crate) const LENGTH_BYTES: u64 = 8;

/// The key of the metadata, which is not a tensor.
pub(crate) const METADATA: &str = "__metadata__";

/// A parsed header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// All tensors, by offset.
    pub tensors: Vec<HeaderTensor>,
    /// Metadata, such as `format: pt`.
    pub metadata: BTreeMap<String, String>,
    /// The offset of the data in the file.
    pub data_start: u64,
}

/// One tensor's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTensor {
    /// Its name, unique in the file.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, the slowest first; `[]` for a scalar.
    pub shape: Vec<usize>,
    /// Its first byte, counted from [`Header::data_start`].
    pub begin: u64,
    /// One past its last byte.
    pub end: u64,
}

impl Header {
    /// Parses the JSON part of a header and checks it against the length of the whole file.
    ///
    /// # Errors
    /// Any deviation from the format; see [`HeaderError`].
    pub fn parse(json: &[u8], file_len: u64) -> Result<Header, HeaderError> {
        let text = std::str::from_utf8(json).map_err(|error| HeaderError::NotUtf8 { at: error.valid_up_to() })?;
        if !text.starts_with('{') {
            return Err(HeaderError::NotAnObject);
        }
        // Two steps: the first finds invalid JSON, the second can name the tensor with the error.
        let entries: Entries<&RawValue> =
            serde_json::from_str(text).map_err(|error| HeaderError::NotJson { message: error.to_string() })?;
        if let Some(name) = entries.repeated_key() {
            return Err(HeaderError::DuplicateName { name: name.to_owned() });
        }
        let mut metadata = BTreeMap::new();
        let mut tensors = Vec::new();
        for (name, value) in entries.0 {
            if name == METADATA {
                metadata = parse_metadata(value)?;
            } else {
                tensors.push(parse_tensor(name, value)?);
            }
        }
        // Empty tensors sort before the tensor that begins at the same offset.
        tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
        let data_start = LENGTH_BYTES + json.len() as u64;
        check_places(&tensors, data_start, file_len)?;
        Ok(Header { tensors, metadata, data_start })
    }

    /// Encodes the header of a file with these tensors, in this order: length, JSON, and spaces up to a
    /// multiple of 8. Deterministic.
    ///
    /// # Errors
    /// The header would be longer than [`MAX_HEADER_BYTES`].
    pub fn encode(tensors: &[HeaderTensor], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, HeaderError> {
        let mut bytes = vec![0; LENGTH_BYTES as usize];
        bytes.push(b'{');
        if !metadata.is_empty() {
            push_entry(&mut bytes, METADATA, metadata);
        }
        for tensor in tensors {
            let entry =
                EntryOut { dtype: tensor.dtype, shape: &tensor.shape, data_offsets: (tensor.begin, tensor.end) };
            push_entry(&mut bytes, &tensor.name, &entry);
        }
        bytes.push(b'}');
        bytes.resize(bytes.len().next_multiple_of(8), b' ');
        let len = bytes.len() as u64 - LENGTH_BYTES;
        if len > MAX_HEADER_BYTES {
            return Err(HeaderError::TooLong { len, limit: MAX_HEADER_BYTES });
        }
        bytes[..LENGTH_BYTES as usize].copy_from_slice(&len.to_le_bytes());
        Ok(bytes)
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object with dtype, shape and data_offsets")]
struct EntryIn {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

#[derive(Serialize)]
struct EntryOut<'a> {
    dtype: Dtype,
    shape: &'a [usize],
    data_offsets: (u64, u64),
}

fn push_entry(bytes: &mut Vec<u8>, name: &str, value: &impl Serialize) {
    if bytes.last() != Some(&b'{') {
        bytes.push(b',');
    }
    // Writing strings and numbers to memory cannot fail.
    let _ = serde_json::to_writer(&mut *bytes, name);
    bytes.push(b':');
    let _ = serde_json::to_writer(&mut *bytes, value);
}

fn parse_metadata(value: &RawValue) -> Result<BTreeMap<String, String>, HeaderError> {
    let entries: Option<Entries<String>> =
        serde_json::from_str(value.get()).map_err(|error| HeaderError::BadMetadata { message: error.to_string() })?;
    let Some(entries) = entries else { return Ok(BTreeMap::new()) };
    if let Some(name) = entries.repeated_key() {
        return Err(HeaderError::DuplicateName { name: name.to_owned() });
    }
    Ok(entries.0.into_iter().collect())
}

fn parse_tensor(name: String, value: &RawValue) -> Result<HeaderTensor, HeaderError> {
    let entry: EntryIn = match serde_json::from_str(value.get()) {
        Ok(entry) => entry,
        Err(error) => {
            return Err(HeaderError::BadEntry { tensor: name, message: error.to_string() });
        }
    };
    let EntryIn { dtype, shape, data_offsets: (begin, end) } = entry;
    let Some(dtype) = Dtype::parse(&dtype) else {
        return Err(HeaderError::UnknownDtype { tensor: name, found: dtype });
    };
    let dims: Result<Vec<usize>, _> = shape.iter().map(|&dim| usize::try_from(dim)).collect();
    let size = dims.map_err(|_| BadSize::Overflow).and_then(|dims| {
        let size = dtype.tensor_bytes(&dims)?;
        Ok((dims, size))
    });
    let (dims, expected) = match size {
        Ok(size) => size,
        Err(BadSize::Overflow) => {
            return Err(HeaderError::ShapeOverflow { tensor: name, dtype, shape });
        }
        Err(BadSize::PartialByte | BadSize::PartialBlock) => {
            return Err(HeaderError::PartialByte { tensor: name, dtype, shape });
        }
    };
    let Some(found) = end.checked_sub(begin) else {
        return Err(HeaderError::ReversedOffsets { tensor: name, begin, end });
    };
    if found != expected {
        return Err(HeaderError::WrongSize { tensor: name, dtype, shape, expected, found });
    }
    Ok(HeaderTensor { name, dtype, shape: dims, begin, end })
}

/// Checks that the tensors, sorted by offset, cover the file from `data_start` to its end without gaps.
fn check_places(tensors: &[HeaderTensor], data_start: u64, file_len: u64) -> Result<(), HeaderError> {
    let mut expected = 0;
    let mut previous = "";
    for tensor in tensors {
        let found = tensor.begin;
        if found < expected {
            let (tensor, previous) = (tensor.name.clone(), previous.to_owned());
            return Err(HeaderError::Overlap { tensor, previous, expected, found });
        }
        if found > expected {
            return Err(HeaderError::Gap { tensor: tensor.name.clone(), expected, found });
        }
        let end = data_start.saturating_add(tensor.end);
        if end > file_len {
            return Err(HeaderError::PastEnd { tensor: tensor.name.clone(), end, file_len });
        }
        expected = tensor.end;
        previous = &tensor.name;
    }
    let data_end = data_start + expected;
    match data_end.cmp(&file_len) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(HeaderError::TrailingBytes { data_end, file_len }),
        std::cmp::Ordering::Greater => Err(HeaderError::Truncated { header_end: data_end, file_len }),
    }
}
