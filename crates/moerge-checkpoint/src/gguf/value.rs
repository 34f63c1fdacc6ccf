//! Values of the metadata, and how they are written.

/// The metadata of a file, in its order. Keys are unique.
pub type Metadata = Vec<(String, Value)>;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // The names are those of the format.
pub enum Value {
    Uint8(u8),
    Int8(i8),
    Uint16(u16),
    Int16(i16),
    Uint32(u32),
    Int32(i32),
    Float32(f32),
    Bool(bool),
    String(String),
    /// Values of one type.
    Array(ValueType, Vec<Value>),
    Uint64(u64),
    Int64(i64),
    Float64(f64),
}

/// The types of values, with their numbers in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(u32)]
pub enum ValueType {
    Uint8 = 0,
    Int8 = 1,
    Uint16 = 2,
    Int16 = 3,
    Uint32 = 4,
    Int32 = 5,
    Float32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    Uint64 = 10,
    Int64 = 11,
    Float64 = 12,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::Uint8,
        Self::Int8,
        Self::Uint16,
        Self::Int16,
        Self::Uint32,
        Self::Int32,
        Self::Float32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::Uint64,
        Self::Int64,
        Self::Float64,
    ];

    /// The type with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Bytes of the shortest value of the type: a string and an array are their lengths at least.
    pub(super) fn min_bytes(self) -> u64 {
        match self {
            Self::Uint8 | Self::Int8 | Self::Bool => 1,
            Self::Uint16 | Self::Int16 => 2,
            Self::Uint32 | Self::Int32 | Self::Float32 => 4,
            Self::String | Self::Uint64 | Self::Int64 | Self::Float64 => 8,
            Self::Array => 12,
        }
    }
}

impl Value {
    /// An array of strings.
    pub fn strings<S: Into<String>>(values: impl IntoIterator<Item = S>) -> Self {
        Self::Array(ValueType::String, values.into_iter().map(|value| Self::String(value.into())).collect())
    }

    /// An array of floats.
    pub fn floats(values: impl IntoIterator<Item = f32>) -> Self {
        Self::Array(ValueType::Float32, values.into_iter().map(Self::Float32).collect())
    }

    /// An array of signed numbers.
    pub fn ints(values: impl IntoIterator<Item = i32>) -> Self {
        Self::Array(ValueType::Int32, values.into_iter().map(Self::Int32).collect())
    }

    /// The value's type.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Uint8(_) => ValueType::Uint8,
            Self::Int8(_) => ValueType::Int8,
            Self::Uint16(_) => ValueType::Uint16,
            Self::Int16(_) => ValueType::Int16,
            Self::Uint32(_) => ValueType::Uint32,
            Self::Int32(_) => ValueType::Int32,
            Self::Float32(_) => ValueType::Float32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(..) => ValueType::Array,
            Self::Uint64(_) => ValueType::Uint64,
            Self::Int64(_) => ValueType::Int64,
            Self::Float64(_) => ValueType::Float64,
        }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number from 0 on, if it is one of any width.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Uint8(n) => Some(u64::from(*n)),
            Self::Uint16(n) => Some(u64::from(*n)),
            Self::Uint32(n) => Some(u64::from(*n)),
            Self::Uint64(n) => Some(*n),
            Self::Int8(n) => u64::try_from(*n).ok(),
            Self::Int16(n) => u64::try_from(*n).ok(),
            Self::Int32(n) => u64::try_from(*n).ok(),
            Self::Int64(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// Appends the value without its type.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Uint8(x) => out.push(*x),
            Self::Int8(x) => out.extend(x.to_le_bytes()),
            Self::Uint16(x) => out.extend(x.to_le_bytes()),
            Self::Int16(x) => out.extend(x.to_le_bytes()),
            Self::Uint32(x) => out.extend(x.to_le_bytes()),
            Self::Int32(x) => out.extend(x.to_le_bytes()),
            Self::Float32(x) => out.extend(x.to_le_bytes()),
            Self::Bool(x) => out.push(u8::from(*x)),
            Self::String(text) => write_string(out, text),
            Self::Array(of, values) => {
                out.extend((*of as u32).to_le_bytes());
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| value.write(out));
            }
            Self::Uint64(x) => out.extend(x.to_le_bytes()),
            Self::Int64(x) => out.extend(x.to_le_bytes()),
            Self::Float64(x) => out.extend(x.to_le_bytes()),
        }
    }
}

/// Appends a string: its length in bytes, and its bytes.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
