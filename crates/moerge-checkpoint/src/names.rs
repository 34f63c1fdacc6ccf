//! The names of files in a model folder that this crate looks for or treats specially.

/// The config of a model.
pub const CONFIG_FILE: &str = "config.json";
/// The config of a PEFT adapter.
pub const ADAPTER_CONFIG_FILE: &str = "adapter_config.json";
/// All weights in one file.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Which shard has which weights.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// All weights in one pickle.
pub(crate) const PICKLED_WEIGHTS_FILE: &str = "pytorch_model.bin";
/// The index if the shards are pickles.
pub(crate) const PICKLED_INDEX_FILE: &str = "pytorch_model.bin.index.json";
