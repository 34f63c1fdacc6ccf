//! How the elements of a tensor are stored: one by one as a [`Dtype`], or in the blocks of ggml's quantised types.

use std::fmt;

use crate::dtype::{BadSize, Dtype};

macro_rules! block_types {
    ($($variant:ident $name:literal $id:literal $elements:literal $bytes:literal $doc:literal;)*) => {
        /// A quantised type of ggml: rows are cut into blocks of equal numbers of elements and of bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types)]
        pub enum BlockType {
            $(#[doc = $doc] $variant,)*
        }

        impl BlockType {
            /// All of them.
            pub const ALL: &[BlockType] = &[$(BlockType::$variant),*];

            /// ggml's name, such as `q4_K`.
            pub const fn name(self) -> &'static str {
                match self { $(BlockType::$variant => $name),* }
            }

            /// The number of the type in GGUF files (`ggml_type`).
            pub const fn ggml_type(self) -> u32 {
                match self { $(BlockType::$variant => $id),* }
            }

            /// Elements of a block.
            pub const fn elements(self) -> usize {
                match self { $(BlockType::$variant => $elements),* }
            }

            /// Bytes of a block.
            pub const fn bytes(self) -> usize {
                match self { $(BlockType::$variant => $bytes),* }
            }
        }
    };
}

block_types! {
    Q4_0 "q4_0" 2 32 18 "4 bits and a scale.";
    Q4_1 "q4_1" 3 32 20 "4 bits, a scale and a minimum.";
    Q5_0 "q5_0" 6 32 22 "5 bits and a scale.";
    Q5_1 "q5_1" 7 32 24 "5 bits, a scale and a minimum.";
    Q8_0 "q8_0" 8 32 34 "8 bits and a scale.";
    Q2_K "q2_K" 10 256 84 "2 bits, 16 scales and minima of 4 bits.";
    Q3_K "q3_K" 11 256 110 "3 bits, 16 scales of 6 bits.";
    Q4_K "q4_K" 12 256 144 "4 bits, 8 scales and minima of 6 bits.";
    Q5_K "q5_K" 13 256 176 "5 bits, 8 scales and minima of 6 bits.";
    Q6_K "q6_K" 14 256 210 "6 bits, 16 scales of 8 bits.";
    IQ4_NL "iq4_nl" 20 32 18 "4 bits into a table of uneven steps, and a scale.";
    IQ4_XS "iq4_xs" 23 256 136 "4 bits into a table of uneven steps, 8 scales of 6 bits.";
}

/// How a tensor's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One by one.
    Plain(Dtype),
    /// In blocks along the rows.
    Blocks(BlockType),
}

impl Encoding {
    /// The type of the elements, where they are stored one by one.
    pub const fn dtype(self) -> Option<Dtype> {
        match self {
            Self::Plain(dtype) => Some(dtype),
            Self::Blocks(_) => None,
        }
    }

    /// The name of the dtype or block type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain(dtype) => dtype.name(),
            Self::Blocks(block) => block.name(),
        }
    }

    /// The number of the type in GGUF files (`ggml_type`); `None` of a type that they do not have.
    pub const fn ggml_type(self) -> Option<u32> {
        Some(match self {
            Self::Blocks(block) => block.ggml_type(),
            Self::Plain(Dtype::F32) => 0,
            Self::Plain(Dtype::F16) => 1,
            Self::Plain(Dtype::I8) => 24,
            Self::Plain(Dtype::I16) => 25,
            Self::Plain(Dtype::I32) => 26,
            Self::Plain(Dtype::I64) => 27,
            Self::Plain(Dtype::F64) => 28,
            Self::Plain(Dtype::BF16) => 30,
            Self::Plain(_) => return None,
        })
    }

    /// The floating-point types and block types of GGUF files.
    pub fn of_gguf() -> impl Iterator<Item = Encoding> {
        let plain = [Dtype::F32, Dtype::F16, Dtype::BF16].map(Self::Plain);
        plain.into_iter().chain(BlockType::ALL.iter().map(|block| Self::Blocks(*block)))
    }

    /// The encoding with this number in GGUF files.
    pub fn from_ggml_type(number: u32) -> Option<Encoding> {
        let plain = Dtype::ALL.iter().map(|dtype| Self::Plain(*dtype));
        let blocks = BlockType::ALL.iter().map(|block| Self::Blocks(*block));
        plain.chain(blocks).find(|encoding| encoding.ggml_type() == Some(number))
    }

    /// Bytes that a tensor of this encoding and `shape` occupies. A scalar has the shape `[]`.
    ///
    /// # Errors
    /// The size does not fit 64 bits, or the elements do not fill whole bytes or, along the rows, whole blocks.
    pub fn tensor_bytes(self, shape: &[usize]) -> Result<u64, BadSize> {
        let block = match self {
            Self::Plain(dtype) => return dtype.tensor_bytes(shape),
            Self::Blocks(block) => block,
        };
        let (columns, outer) = shape.split_last().ok_or(BadSize::PartialBlock)?;
        if columns % block.elements() != 0 {
            return Err(BadSize::PartialBlock);
        }
        let row = (columns / block.elements()).checked_mul(block.bytes()).and_then(|bytes| u64::try_from(bytes).ok());
        let rows = |bytes: u64, dim: &usize| bytes.checked_mul(u64::try_from(*dim).ok()?);
        row.and_then(|row| outer.iter().try_fold(row, rows)).ok_or(BadSize::Overflow)
    }
}

impl From<Dtype> for Encoding {
    fn from(dtype: Dtype) -> Self {
        Self::Plain(dtype)
    }
}

impl From<BlockType> for Encoding {
    fn from(block: BlockType) -> Self {
        Self::Blocks(block)
    }
}

impl PartialEq<Dtype> for Encoding {
    fn eq(&self, dtype: &Dtype) -> bool {
        *self == Self::Plain(*dtype)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_types_are_unique_and_read_back() {
        for block in BlockType::ALL {
            assert_eq!(Encoding::from_ggml_type(block.ggml_type()), Some(Encoding::Blocks(*block)));
        }
        assert_eq!(Encoding::from_ggml_type(30), Some(Encoding::Plain(Dtype::BF16)));
        assert_eq!(Encoding::from_ggml_type(4), None);
    }

    #[test]
    fn blocks_fill_rows_or_are_refused() {
        let q4_k = Encoding::Blocks(BlockType::Q4_K);
        assert_eq!(q4_k.tensor_bytes(&[3, 512]), Ok(3 * 2 * 144));
        assert_eq!(q4_k.tensor_bytes(&[512, 3]), Err(BadSize::PartialBlock));
        assert_eq!(q4_k.tensor_bytes(&[]), Err(BadSize::PartialBlock));
        assert_eq!(q4_k.tensor_bytes(&[usize::MAX, 256]), Err(BadSize::Overflow));
        assert_eq!(Encoding::Plain(Dtype::F16).tensor_bytes(&[3, 5]), Ok(30));
    }
}
