//! Reading the header of a file that comes from outside: every length is checked against the file before anything is
//! allocated for it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ALIGNMENT, MAGIC, Metadata, Value, ValueType};
use crate::{
    encoding::Encoding,
    error::{Error, GgufError, Result, io_at},
    storage::{ReadAt, ReadStorage},
};

/// Values of the metadata, those in arrays included. The largest vocabularies need two million.
const MAX_VALUES: u64 = 8 << 20;
/// Tensors of a file. Readers of the format have no more.
const MAX_TENSORS: u64 = 1 << 20;
/// Bytes of the header.
const MAX_HEADER: u64 = 1 << 30;
/// Dimensions of a tensor (`GGML_MAX_DIMS`).
const MAX_DIMS: u32 = 4;
/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// A GGUF file whose header was read.
#[derive(Debug, Clone)]
pub struct GgufFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// Its metadata.
    pub metadata: Metadata,
    /// Its tensors, in the header's order.
    pub tensors: Vec<GgufTensor>,
}

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// Its name.
    pub name: String,
    /// Its dimensions, the slowest first.
    pub shape: Vec<usize>,
    /// The number of its type.
    pub ggml_type: u32,
    /// How its elements are stored; `None` of a type that moerge does not know.
    pub encoding: Option<Encoding>,
    /// Its first byte, from the start of the file.
    pub offset: u64,
    /// Its size in bytes; 0 of a type that moerge does not know.
    pub len: u64,
}

impl GgufFile {
    /// Reads the header of the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or breaks the format.
    pub fn open(storage: &dyn ReadStorage, path: &Path) -> Result<Self> {
        let file = storage.open(path).map_err(io_at("open", path))?;
        let len = file.len();
        let mut input = Input { file, path, position: 0, buffer: Vec::new(), buffer_start: 0, values: 0 };
        input.header().map(|(metadata, tensors)| Self { path: path.to_owned(), len, metadata, tensors })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(own, _)| own == key).map(|(_, value)| value)
    }
}

/// The bytes of a header, in order.
struct Input<'a> {
    file: Arc<dyn ReadAt>,
    path: &'a Path,
    position: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
    /// Values read so far.
    values: u64,
}

impl Input<'_> {
    fn header(&mut self) -> Result<(Metadata, Vec<GgufTensor>)> {
        let magic = self.array::<4>("the magic number")?;
        if magic != MAGIC {
            return Err(self.refuse(GgufError::NotGguf));
        }
        let version = self.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(self.refuse(GgufError::Version { found: version }));
        }
        let tensors = self.count("tensors", MAX_TENSORS, 24)?;
        let keys = self.count("keys", MAX_VALUES, 12)?;
        let metadata = self.metadata(keys)?;
        let tensors = self.tensors(tensors, &metadata)?;
        Ok((metadata, tensors))
    }

    fn metadata(&mut self, keys: u64) -> Result<Metadata> {
        let (mut metadata, mut seen) = (Metadata::new(), HashSet::new());
        for _ in 0..keys {
            let key = self.string("a key")?;
            if !seen.insert(key.clone()) {
                return Err(self.refuse(GgufError::Duplicate { what: "key", name: key }));
            }
            let of = self.value_type(&key)?;
            let value = self.value(of, &key)?;
            metadata.push((key, value));
        }
        Ok(metadata)
    }

    fn tensors(&mut self, count: u64, metadata: &Metadata) -> Result<Vec<GgufTensor>> {
        let alignment = metadata.iter().find(|(key, _)| key == "general.alignment").map(|(_, value)| value.as_u64());
        let alignment = alignment.unwrap_or(Some(ALIGNMENT)).filter(|a| a.is_power_of_two() && *a <= 1 << 20);
        let Some(alignment) = alignment else {
            return Err(self.refuse(GgufError::BadValue { key: "general.alignment".to_owned() }));
        };
        let (mut tensors, mut seen) = (Vec::new(), HashSet::new());
        for _ in 0..count {
            let name = self.string("the name of a tensor")?;
            if !seen.insert(name.clone()) {
                return Err(self.refuse(GgufError::Duplicate { what: "tensor", name }));
            }
            tensors.push(self.tensor(name)?);
        }
        let data = self.position.next_multiple_of(alignment);
        let file_len = self.file.len();
        for tensor in &mut tensors {
            let end = data.checked_add(tensor.offset).and_then(|offset| {
                tensor.offset = offset;
                offset.checked_add(tensor.len)
            });
            if tensor.offset % alignment != 0 || end.is_none_or(|end| end > file_len) {
                let tensor = tensor.name.clone();
                return Err(self.refuse(GgufError::OutsideFile { tensor, end: end.unwrap_or(u64::MAX), file_len }));
            }
        }
        Ok(tensors)
    }

    fn tensor(&mut self, name: String) -> Result<GgufTensor> {
        let count = self.u32("the dimensions of a tensor")?;
        if count > MAX_DIMS {
            return Err(self.refuse(GgufError::TooMany { what: "dimensions of a tensor", found: u64::from(count) }));
        }
        let mut shape = Vec::new();
        for _ in 0..count {
            let dim = self.u64("a dimension")?;
            let dim = usize::try_from(dim).ok().filter(|dim| *dim < 1 << 40);
            shape.push(dim.ok_or_else(|| self.refuse(GgufError::BadShape { tensor: name.clone() }))?);
        }
        shape.reverse();
        let ggml_type = self.u32("the type of a tensor")?;
        let offset = self.u64("the place of a tensor")?;
        let encoding = Encoding::from_ggml_type(ggml_type);
        let len = encoding.map_or(Ok(0), |encoding| encoding.tensor_bytes(&shape));
        let len = len.map_err(|_| self.refuse(GgufError::BadShape { tensor: name.clone() }))?;
        Ok(GgufTensor { name, shape, ggml_type, encoding, offset, len })
    }

    fn value_type(&mut self, key: &str) -> Result<ValueType> {
        let number = self.u32("the type of a value")?;
        ValueType::from_number(number).ok_or_else(|| self.refuse(GgufError::BadValue { key: key.to_owned() }))
    }

    fn value(&mut self, of: ValueType, key: &str) -> Result<Value> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.refuse(GgufError::TooMany { what: "values", found: self.values }));
        }
        let what = "a value";
        Ok(match of {
            ValueType::Uint8 => Value::Uint8(self.array::<1>(what)?[0]),
            ValueType::Int8 => Value::Int8(i8::from_le_bytes(self.array(what)?)),
            ValueType::Uint16 => Value::Uint16(u16::from_le_bytes(self.array(what)?)),
            ValueType::Int16 => Value::Int16(i16::from_le_bytes(self.array(what)?)),
            ValueType::Uint32 => Value::Uint32(self.u32(what)?),
            ValueType::Int32 => Value::Int32(i32::from_le_bytes(self.array(what)?)),
            ValueType::Float32 => Value::Float32(f32::from_le_bytes(self.array(what)?)),
            ValueType::Bool => Value::Bool(self.array::<1>(what)?[0] != 0),
            ValueType::String => Value::String(self.string(what)?),
            ValueType::Uint64 => Value::Uint64(self.u64(what)?),
            ValueType::Int64 => Value::Int64(i64::from_le_bytes(self.array(what)?)),
            ValueType::Float64 => Value::Float64(f64::from_le_bytes(self.array(what)?)),
            ValueType::Array => {
                let of = self.value_type(key)?;
                if of == ValueType::Array {
                    // No key of the format has one.
                    return Err(self.refuse(GgufError::BadValue { key: key.to_owned() }));
                }
                let count = self.count("values", MAX_VALUES, of.min_bytes())?;
                let values = (0..count).map(|_| self.value(of, key)).collect::<Result<_>>()?;
                Value::Array(of, values)
            }
        })
    }

    /// A number of things that take at least `each` bytes.
    fn count(&mut self, what: &'static str, limit: u64, each: u64) -> Result<u64> {
        let count = self.u64(what)?;
        let left = self.file.len().saturating_sub(self.position);
        if count > limit {
            return Err(self.refuse(GgufError::TooMany { what, found: count }));
        }
        if count.saturating_mul(each) > left {
            return Err(self.refuse(GgufError::Truncated { what }));
        }
        Ok(count)
    }

    fn string(&mut self, what: &'static str) -> Result<String> {
        let len = self.count(what, MAX_HEADER, 1)?;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let left = (len - bytes.len() as u64).min(BUFFER as u64) as usize;
            let at = bytes.len();
            bytes.resize(at + left, 0);
            self.read(&mut bytes[at..], what)?;
        }
        // Vocabularies made from other tokenizers hold parts of characters; no reader needs these as text.
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn u32(&mut self, what: &'static str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(&mut bytes, what)?;
        Ok(bytes)
    }

    fn read(&mut self, out: &mut [u8], what: &'static str) -> Result<()> {
        let end = self.position + out.len() as u64;
        if end > self.file.len() {
            return Err(self.refuse(GgufError::Truncated { what }));
        }
        if end > MAX_HEADER {
            return Err(self.refuse(GgufError::TooMany { what: "bytes of the header", found: end }));
        }
        let buffered = self.buffer_start..self.buffer_start + self.buffer.len() as u64;
        if self.position < buffered.start || end > buffered.end {
            let length = (self.file.len() - self.position).min((BUFFER.max(out.len())) as u64) as usize;
            self.buffer.resize(length, 0);
            self.buffer_start = self.position;
            self.file.read_exact_at(&mut self.buffer, self.position).map_err(io_at("read", self.path))?;
        }
        let at = (self.position - self.buffer_start) as usize;
        out.copy_from_slice(&self.buffer[at..at + out.len()]);
        self.position = end;
        Ok(())
    }

    fn refuse(&self, problem: GgufError) -> Error {
        Error::Gguf { file: self.path.to_owned(), problem }
    }
}
