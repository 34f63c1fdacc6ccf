//! The element types of the safetensors format, version 0.8, with their names and widths. Some are
//! narrower than a byte, so widths are counted in bits, and a tensor of such a type is valid only if
//! its elements fill whole bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! dtypes {
    ($($variant:ident $bits:literal $float:literal $doc:literal;)*) => {
        /// The type of a tensor's elements, named as in a safetensors header.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[allow(non_camel_case_types)]
        #[non_exhaustive]
        pub enum Dtype {
            $(#[doc = $doc] $variant,)*
        }

        impl Dtype {
            /// All types.
            pub const ALL: &[Dtype] = &[$(Dtype::$variant),*];

            /// Width of one element in bits.
            pub const fn size_bits(self) -> u32 {
                match self { $(Dtype::$variant => $bits),* }
            }

            /// The name in a safetensors header, such as `BF16`.
            pub const fn name(self) -> &'static str {
                match self { $(Dtype::$variant => stringify!($variant)),* }
            }

            /// Whether the elements are real floating-point numbers, of any width.
            pub const fn is_float(self) -> bool {
                match self { $(Dtype::$variant => $float),* }
            }
        }
    };
}

dtypes! {
    BOOL 8 false "One byte, 0 or 1.";
    F4 4 true "MXFP4 element, E2M1 (OCP microscaling formats).";
    F6_E2M3 6 true "MXFP6 element, E2M3.";
    F6_E3M2 6 true "MXFP6 element, E3M2.";
    U8 8 false "Unsigned byte.";
    I8 8 false "Signed byte.";
    F8_E5M2 8 true "FP8, 5 exponent bits.";
    F8_E4M3 8 true "FP8, 4 exponent bits.";
    F8_E8M0 8 true "A power of two: the scale of the microscaling formats.";
    F8_E4M3FNUZ 8 true "FP8 E4M3, finite, without a negative zero.";
    F8_E5M2FNUZ 8 true "FP8 E5M2, finite, without a negative zero.";
    I16 16 false "Signed 16-bit integer.";
    U16 16 false "Unsigned 16-bit integer.";
    F16 16 true "IEEE 754 half precision.";
    BF16 16 true "bfloat16: the upper half of an F32.";
    I32 32 false "Signed 32-bit integer.";
    U32 32 false "Unsigned 32-bit integer.";
    F32 32 true "IEEE 754 single precision.";
    C64 64 false "Complex number of two F32.";
    F64 64 true "IEEE 754 double precision.";
    I64 64 false "Signed 64-bit integer.";
    U64 64 false "Unsigned 64-bit integer.";
}

/// PyTorch's names, used in `config.json` and recipes, of the types that outputs can have, and their short forms.
const TORCH_NAMES: [(&str, Dtype, &[&str]); 4] = [
    ("bfloat16", Dtype::BF16, &["bf16"]),
    ("float16", Dtype::F16, &["f16", "fp16"]),
    ("float32", Dtype::F32, &["f32", "fp32"]),
    ("float64", Dtype::F64, &[]),
];

impl Dtype {
    /// PyTorch's name, such as `bfloat16`; `None` for types that outputs cannot have.
    pub fn torch_name(self) -> Option<&'static str> {
        TORCH_NAMES.iter().find(|(_, dtype, _)| *dtype == self).map(|(name, ..)| *name)
    }

    /// The type with this PyTorch name, with or without the prefix `torch.`.
    pub fn from_torch_name(name: &str) -> Option<Dtype> {
        let name = name.strip_prefix("torch.").unwrap_or(name);
        TORCH_NAMES.iter().find(|(known, ..)| *known == name).map(|(_, dtype, _)| *dtype)
    }

    /// The same, or the type with this short form of the name, such as `bf16`.
    pub fn from_common_name(name: &str) -> Option<Dtype> {
        let short = || TORCH_NAMES.iter().find(|(.., short)| short.contains(&name)).map(|(_, dtype, _)| *dtype);
        Dtype::from_torch_name(name).or_else(short)
    }

    /// The type of this name, or `None` if the format has no such type. Names are case-sensitive.
    pub fn parse(name: &str) -> Option<Dtype> {
        Dtype::ALL.iter().copied().find(|dtype| dtype.name() == name)
    }

    /// Alignment of an element in bytes: its width, or 1 for types narrower than a byte.
    pub const fn alignment(self) -> u64 {
        match self.size_bits() / 8 {
            0 => 1,
            bytes => bytes as u64,
        }
    }

    /// Bytes that a tensor of this type and `shape` occupies. A scalar has the shape `[]`.
    ///
    /// # Errors
    /// The count of bits does not fit 64 bits, or the elements do not fill whole bytes.
    pub fn tensor_bytes(self, shape: &[usize]) -> Result<u64, BadSize> {
        let bits = shape
            .iter()
            .try_fold(u64::from(self.size_bits()), |bits, &dim| bits.checked_mul(u64::try_from(dim).ok()?))
            .ok_or(BadSize::Overflow)?;
        if bits % 8 == 0 { Ok(bits / 8) } else { Err(BadSize::PartialByte) }
    }
}

/// Why a shape and a type give no valid size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSize {
    /// More bits than a 64-bit number counts.
    #[error("more bytes than can be counted")]
    Overflow,
    /// Elements narrower than a byte, and the last byte is not full.
    #[error("not a whole number of bytes")]
    PartialByte,
    /// Elements in blocks, and the last block of a row is not full.
    #[error("not a whole number of blocks in each row")]
    PartialBlock,
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(name: &str) -> Result<Dtype, String> {
        Dtype::parse(name).ok_or_else(|| format!("unknown dtype `{name}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_match_serde() {
        for &dtype in Dtype::ALL {
            assert_eq!(Dtype::parse(dtype.name()), Some(dtype));
            let json = serde_json::to_string(&dtype).unwrap();
            assert_eq!(json, format!("\"{dtype}\""));
            assert_eq!(serde_json::from_str::<Dtype>(&json).unwrap(), dtype);
        }
        assert_eq!(Dtype::parse("bf16"), None);
        assert_eq!(Dtype::parse(""), None);
    }

    #[test]
    fn sizes_count_bits_and_refuse_parts_of_bytes() {
        assert_eq!(Dtype::BF16.tensor_bytes(&[14336, 4096]), Ok(117_440_512));
        assert_eq!(Dtype::F32.tensor_bytes(&[]), Ok(4));
        assert_eq!(Dtype::F32.tensor_bytes(&[0, 7]), Ok(0));
        assert_eq!(Dtype::F4.tensor_bytes(&[3]), Err(BadSize::PartialByte));
        assert_eq!(Dtype::F4.tensor_bytes(&[4]), Ok(2));
        assert_eq!(Dtype::F6_E2M3.tensor_bytes(&[4]), Ok(3));
        let huge = [1usize << 40, 1usize << 40];
        assert_eq!(Dtype::U8.tensor_bytes(&huge), Err(BadSize::Overflow));
    }
}
