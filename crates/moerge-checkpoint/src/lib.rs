//! The bytes of a checkpoint: safetensors files, shards and folders.
//!
//! This crate reads model folders without loading them ([`Checkpoint`], [`TensorView`]), lays out
//! the shards of a new model to the byte before any is written ([`ShardLayout`]), and writes them
//! so that a folder under its final name is always complete, even after a crash or a power cut
//! ([`OutputDir`], [`ShardWriter`]). It contains no machine learning, networking or terminal code. All
//! I/O goes through two small traits, [`ReadStorage`] and [`OutputStorage`], so tests can simulate a
//! power cut at every operation.

mod checkpoint;
mod dtype;
mod encoding;
mod error;
mod file_name;
mod fingerprint;
pub mod gguf;
mod header;
mod index;
mod json_entries;
mod names;
mod output_dir;
pub mod pickle;
mod shard_layout;
mod shard_writer;
mod shown;
mod source_file;
mod source_folder;
pub mod storage;
mod tensor_view;
mod weight_files;
pub mod workers;

pub use checkpoint::Checkpoint;
pub use dtype::{BadSize, Dtype};
pub use encoding::{BlockType, Encoding};
pub use error::{Error, GgufError, HeaderError, IndexError, Result};
pub use fingerprint::{Fingerprint, Fingerprinter, ParseFingerprintError, TensorFingerprints};
pub use header::{Header, HeaderTensor, MAX_HEADER_BYTES};
pub use index::Index;
pub use names::{ADAPTER_CONFIG_FILE, CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE};
pub use output_dir::{Found, OutputDir, write_durably};
pub use shard_layout::{Placement, Shard, ShardLayout, TensorSpec};
pub use shard_writer::ShardWriter;
pub use source_file::SourceFile;
pub use storage::simulated::{Fault, SimulatedDisk, SimulatedObjects, Survives};
pub use storage::{
    Facts, FileKind, LocalStorage, Lock, OutputStorage, ReadAt, ReadStorage, StorageError, WriteAt, is_object,
};
pub use tensor_view::TensorView;
pub use weight_files::{IncompleteShards, WeightFiles};
