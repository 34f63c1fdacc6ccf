//! What a config class has for keys that are absent from `config.json`.

/// Defaults of a config class for keys that are absent from `config.json`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// `rms_norm_eps`.
    pub norm_eps: f64,
    /// `rope_theta`.
    pub rope_theta: f64,
    /// `max_position_embeddings`.
    pub max_positions: usize,
    /// `tie_word_embeddings`.
    pub tied_embeddings: bool,
    /// Sizes that may be absent from the text part of a multimodal model, because transformers saves only values that
    /// differ from the class defaults. In other configs a missing size is an error.
    pub sizes: Sizes,
}

/// The default sizes of a config class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    /// `hidden_size`.
    pub hidden: usize,
    /// `intermediate_size`.
    pub intermediate: usize,
    /// `num_hidden_layers`.
    pub layers: usize,
    /// `num_attention_heads`.
    pub heads: usize,
    /// `num_key_value_heads`.
    pub kv_heads: usize,
    /// `vocab_size`.
    pub vocabulary: usize,
}

impl Sizes {
    /// The defaults of `LlamaConfig`: Llama 7B.
    pub const LLAMA: Self =
        Self { hidden: 4096, intermediate: 11_008, layers: 32, heads: 32, kv_heads: 32, vocabulary: 32_000 };

    /// The sizes by their keys in `config.json`.
    pub fn by_key(self) -> [(&'static str, usize); 6] {
        [
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("vocab_size", self.vocabulary),
        ]
    }
}

impl Defaults {
    /// The defaults of `LlamaConfig`, also used for unknown families.
    pub const LLAMA: Self =
        Self { norm_eps: 1e-6, rope_theta: 10_000.0, max_positions: 2048, tied_embeddings: false, sizes: Sizes::LLAMA };
}
