//! ggml's block types by name, number and size (ggml 0.25.3: `ggml.h`, `ggml-common.h`).

/// How ggml keeps the weights of a row in blocks: a number of weights with common scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockType {
    /// 4.5 bits per weight: 16 levels, one scale per 32.
    Q4_0,
    /// 5 bits: 16 levels, a scale and a minimum per 32.
    Q4_1,
    /// 5.5 bits: 32 levels, one scale per 32.
    Q5_0,
    /// 6 bits: 32 levels, a scale and a minimum per 32.
    Q5_1,
    /// 8.5 bits: 255 levels, one scale per 32.
    Q8_0,
    /// 2.625 bits: 4 levels, scales and minima of 4 bits per 16.
    Q2K,
    /// 3.4375 bits: 8 levels, scales of 6 bits per 16.
    Q3K,
    /// 4.5 bits: 16 levels, scales and minima of 6 bits per 32.
    Q4K,
    /// 5.5 bits: 32 levels, scales and minima of 6 bits per 32.
    Q5K,
    /// 6.5625 bits: 64 levels, scales of 8 bits per 16.
    Q6K,
    /// 4.5 bits: 16 levels that lie closer near zero, one scale per 32.
    Iq4Nl,
    /// 4.25 bits: the levels of `iq4_nl`, scales of 6 bits per 32.
    Iq4Xs,
}

/// What is known of a type: name, number in files, weights and bytes of a block.
struct Facts {
    name: &'static str,
    id: u32,
    weights: usize,
    bytes: usize,
}

impl BlockType {
    /// All types, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
    ];

    fn facts(self) -> Facts {
        let (name, id, weights, bytes) = match self {
            Self::Q4_0 => ("q4_0", 2, 32, 18),
            Self::Q4_1 => ("q4_1", 3, 32, 20),
            Self::Q5_0 => ("q5_0", 6, 32, 22),
            Self::Q5_1 => ("q5_1", 7, 32, 24),
            Self::Q8_0 => ("q8_0", 8, 32, 34),
            Self::Q2K => ("q2_K", 10, 256, 84),
            Self::Q3K => ("q3_K", 11, 256, 110),
            Self::Q4K => ("q4_K", 12, 256, 144),
            Self::Q5K => ("q5_K", 13, 256, 176),
            Self::Q6K => ("q6_K", 14, 256, 210),
            Self::Iq4Nl => ("iq4_nl", 20, 32, 18),
            Self::Iq4Xs => ("iq4_xs", 23, 256, 136),
        };
        Facts { name, id, weights, bytes }
    }

    /// ggml's name: `q4_K`, `iq4_nl`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The type of this name, in upper or lower case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|block| block.name().eq_ignore_ascii_case(name))
    }

    /// The number that files have for it (`enum ggml_type`).
    pub fn id(self) -> u32 {
        self.facts().id
    }

    /// The type of this number in files.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|block| block.id() == id)
    }

    /// Weights in a block. Rows are whole blocks.
    pub fn block_weights(self) -> usize {
        self.facts().weights
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.facts().bytes
    }

    /// Bytes of a row of `columns` weights; `None` if they are not whole blocks.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let whole = columns.is_multiple_of(self.block_weights());
        if whole { (columns / self.block_weights()).checked_mul(self.block_bytes()) } else { None }
    }
}
