//! The mixes of types, by the names that llama-quantize gives them.

use moerge_checkpoint::{BlockType, Dtype, Encoding};

use crate::suggest::did_you_mean;

macro_rules! file_types {
    ($($variant:ident $name:literal $number:literal $encoding:expr;)*) => {
        /// A mix of types (`llama_ftype`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(non_camel_case_types, missing_docs)] // The names are llama.cpp's.
        pub enum FileType {
            $($variant,)*
        }

        impl FileType {
            /// All of them, from the largest files to the smallest.
            pub const ALL: &[FileType] = &[$(FileType::$variant),*];

            /// The name in lower case, such as `q4_k_m`.
            pub const fn name(self) -> &'static str {
                match self { $(FileType::$variant => $name),* }
            }

            /// The number in `general.file_type`.
            pub const fn number(self) -> u32 {
                match self { $(FileType::$variant => $number),* }
            }

            /// The type of most tensors.
            pub const fn encoding(self) -> Encoding {
                match self { $(FileType::$variant => $encoding),* }
            }
        }
    };
}

const fn plain(dtype: Dtype) -> Encoding {
    Encoding::Plain(dtype)
}

const fn blocks(block: BlockType) -> Encoding {
    Encoding::Blocks(block)
}

file_types! {
    F32 "f32" 0 plain(Dtype::F32);
    F16 "f16" 1 plain(Dtype::F16);
    BF16 "bf16" 32 plain(Dtype::BF16);
    Q8_0 "q8_0" 7 blocks(BlockType::Q8_0);
    Q6_K "q6_k" 18 blocks(BlockType::Q6_K);
    Q5_K_M "q5_k_m" 17 blocks(BlockType::Q5_K);
    Q5_K_S "q5_k_s" 16 blocks(BlockType::Q5_K);
    Q5_1 "q5_1" 9 blocks(BlockType::Q5_1);
    Q5_0 "q5_0" 8 blocks(BlockType::Q5_0);
    Q4_K_M "q4_k_m" 15 blocks(BlockType::Q4_K);
    Q4_K_S "q4_k_s" 14 blocks(BlockType::Q4_K);
    Q4_1 "q4_1" 3 blocks(BlockType::Q4_1);
    Q4_0 "q4_0" 2 blocks(BlockType::Q4_0);
    IQ4_NL "iq4_nl" 25 blocks(BlockType::IQ4_NL);
    IQ4_XS "iq4_xs" 30 blocks(BlockType::IQ4_XS);
    Q3_K_L "q3_k_l" 13 blocks(BlockType::Q3_K);
    Q3_K_M "q3_k_m" 12 blocks(BlockType::Q3_K);
    Q3_K_S "q3_k_s" 11 blocks(BlockType::Q3_K);
    Q2_K "q2_k" 10 blocks(BlockType::Q2_K);
    Q2_K_S "q2_k_s" 21 blocks(BlockType::Q2_K);
}

/// Other names that llama-quantize takes.
const OTHER_NAMES: [(&str, FileType); 3] =
    [("q3_k", FileType::Q3_K_M), ("q4_k", FileType::Q4_K_M), ("q5_k", FileType::Q5_K_M)];

impl FileType {
    /// The mix of this name, in any case.
    ///
    /// # Errors
    /// There is none; the message suggests a similar name.
    pub fn parse(name: &str) -> Result<Self, String> {
        let wanted = name.to_lowercase();
        let own = Self::ALL.iter().map(|own| (own.name(), *own));
        if let Some((_, found)) = own.chain(OTHER_NAMES).find(|(name, _)| *name == wanted) {
            return Ok(found);
        }
        let names: Vec<&str> = Self::ALL.iter().map(|own| own.name()).collect();
        Err(unknown_type(name, &names))
    }

    /// Whether its types use an importance matrix.
    pub fn uses_importance(self) -> bool {
        uses_importance(self.encoding())
    }
}

/// Whether encoding weights this way uses their importance. ggml ignores it for q8_0.
pub fn uses_importance(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::Blocks(block) if block != BlockType::Q8_0)
}

/// What to say of the name of a type that is none of `known`.
pub fn unknown_type(name: &str, known: &[impl AsRef<str>]) -> String {
    let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    let meant = did_you_mean(name, known.iter().copied());
    let meant = meant.map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
    format!("unknown type `{name}`{meant} (known: {})", known.join(", "))
}
