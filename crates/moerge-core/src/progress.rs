//! Progress reports of the library: stages with a size, independent of a terminal.
//!
//! Long operations call these methods from any thread. The command draws bars or prints JSON events; tests ignore them.

use crate::error::{Error, Result};

/// The long stages of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Fetching models from the Hub; counted in bytes.
    Download,
    /// The prompt pass over the base; counted in layers.
    Prompts,
    /// Writing the shards; counted in bytes.
    Weights,
    /// Checking what was written; counted in tensors.
    Verify,
    /// Reading every byte of a model; counted in bytes.
    Read,
    /// Reading a model into memory; counted in the bytes it takes there.
    Load,
    /// Sending files to the Hub; counted in bytes.
    Upload,
    /// Generating text with the experts; counted in tokens.
    SelfText,
    /// Training gates; counted in layers, twice per step (forward and backward).
    Gates,
    /// Running a model over texts; counted in tokens.
    Score,
    /// Decomposing differences of weights; counted in tensors.
    Decompose,
}

/// The unit of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Decoder layers.
    Layers,
    /// Tensors.
    Tensors,
    /// Bytes.
    Bytes,
    /// Tokens of text.
    Tokens,
}

impl Stage {
    /// The unit.
    pub fn unit(self) -> Unit {
        match self {
            Self::Prompts | Self::Gates => Unit::Layers,
            Self::Verify | Self::Decompose => Unit::Tensors,
            Self::Download | Self::Weights | Self::Read | Self::Load | Self::Upload => Unit::Bytes,
            Self::SelfText | Self::Score => Unit::Tokens,
        }
    }

    /// The name for display and in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Prompts => "prompts",
            Self::Weights => "weights",
            Self::Verify => "verify",
            Self::Read => "read",
            Self::Load => "load",
            Self::Upload => "upload",
            Self::SelfText => "text",
            Self::Gates => "gates",
            Self::Score => "score",
            Self::Decompose => "decompose",
        }
    }
}

/// Receives progress reports. All methods may be called from any thread.
pub trait Progress: Send + Sync {
    /// `stage` starts and will count to `total`, of which an earlier run finished `done`.
    fn start(&self, stage: Stage, total: u64, done: u64);
    /// `stage` advanced by `amount`.
    fn advance(&self, stage: Stage, amount: u64);
    /// `stage` read `bytes` from disk (for the rate of stages that are not counted in bytes).
    fn bytes_read(&self, _stage: Stage, _bytes: u64) {}
    /// `stage` finished with the result `summary`, which is empty if the caller reports the result itself.
    fn finish(&self, stage: Stage, summary: &str);
    /// A note for the user: resumed work, an unused tensor.
    fn note(&self, _message: &str) {}
    /// A detail for verbose output.
    fn detail(&self, _message: &str) {}
    /// Whether the user wants to stop. Long loops check this several times per second.
    fn stop_requested(&self) -> bool {
        false
    }
    /// An [`Error::interrupted`] if the user wants to stop.
    ///
    /// # Errors
    /// The user wants to stop.
    fn check(&self) -> Result<()> {
        if self.stop_requested() { Err(Error::interrupted()) } else { Ok(()) }
    }
}

/// Ignores all reports.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: Stage, _: u64, _: u64) {}
    fn advance(&self, _: Stage, _: u64) {}
    fn finish(&self, _: Stage, _: &str) {}
}
