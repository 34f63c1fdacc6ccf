//! Names of a model's files besides the weights, as written by the Hugging Face tools.

/// The config of a model.
pub const CONFIG: &str = "config.json";
/// The config of a PEFT adapter.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The weights of an adapter, in order of precedence.
pub const ADAPTER_WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
/// The tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// Its special tokens, and mostly the chat template.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Stop tokens, and how answers are sampled.
pub const GENERATION_CONFIG: &str = "generation_config.json";
/// A chat template.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Files of a tokenizer. Those of the base are copied to the output.
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
