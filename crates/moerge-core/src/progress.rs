//! Progress as the library tells it: stages with a size, no terminal in sight.
//!
//! Long work calls these from any thread. The binary draws bars from them, or prints JSON events; tests ignore them.

use crate::error::{Error, Result};

/// The long parts of a run, in the order in which they happen.
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
    /// The experts write text; counted in tokens.
    SelfText,
    /// Training gates; counted in layers, each up and down in every step.
    Gates,
    /// Running a model over texts; counted in tokens.
    Score,
    /// Decomposing differences of weights; counted in tensors.
    Decompose,
}

/// What a stage counts.
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
    /// What the stage counts.
    pub fn unit(self) -> Unit {
        match self {
            Self::Prompts | Self::Gates => Unit::Layers,
            Self::Verify | Self::Decompose => Unit::Tensors,
            Self::Download | Self::Weights | Self::Read | Self::Load | Self::Upload => Unit::Bytes,
            Self::SelfText | Self::Score => Unit::Tokens,
        }
    }

    /// The stage's name on screen and in events.
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

/// Listens to a run. All methods may be called from any thread.
pub trait Progress: Send + Sync {
    /// `stage` starts and will count to `total`, of which `done` is already there from an earlier run.
    fn start(&self, stage: Stage, total: u64, done: u64);
    /// `stage` went on by `amount`.
    fn advance(&self, stage: Stage, amount: u64);
    /// `stage` read `bytes` from disk (for bytes/s where the stage is not itself counted in bytes).
    fn bytes_read(&self, _stage: Stage, _bytes: u64) {}
    /// `stage` is over; `summary` says what came of it, and is empty where the caller tells that itself.
    fn finish(&self, stage: Stage, summary: &str);
    /// Something worth a line: resumed work, a tensor that nobody uses.
    fn note(&self, _message: &str) {}
    /// Something for those who ask for details (`-v`).
    fn detail(&self, _message: &str) {}
    /// Whether the user wants to stop. Long loops ask several times a second.
    fn stop_requested(&self) -> bool {
        false
    }
    /// An [`Error::interrupted`] where the user wants to stop.
    fn check(&self) -> Result<()> {
        if self.stop_requested() { Err(Error::interrupted()) } else { Ok(()) }
    }
}

/// Listens to nothing.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: Stage, _: u64, _: u64) {}
    fn advance(&self, _: Stage, _: u64) {}
    fn finish(&self, _: Stage, _: &str) {}
}
