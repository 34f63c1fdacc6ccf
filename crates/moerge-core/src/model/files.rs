//! The names of the files beside the weights, as the Hugging Face tools write them.

/// What a model is.
pub const CONFIG: &str = "config.json";
/// What says that a folder holds a PEFT adapter.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The weights of an adapter, in order of precedence.
pub const ADAPTER_WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
/// The tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// Its special tokens, and mostly the chat template.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// A chat template in a file of its own.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Files of a tokenizer. A written model gets its base's, byte for byte, where they are there.
pub const TOKENIZER_FILES: [&str; 12] = [
    TOKENIZER,
    TOKENIZER_CONFIG,
    "tokenizer.model",
    "tokenizer.model.v3",
    "tekken.json",
    "spiece.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    CHAT_TEMPLATE,
    "chat_template.json",
];
