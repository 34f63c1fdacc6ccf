//! Models that write answers are in memory: a pass over streamed weights for every token would take forever.

use moerge_core::error::{Cause, Error, Result};
use moerge_infer::{decoder::ResidentModel, model::Model, runner::Runner};

/// The model that `runner` holds in memory.
///
/// # Errors
/// It is streamed from disk.
pub(super) fn resident<'a>(runner: &'a Runner<'_>, model: &Model) -> Result<&'a ResidentModel> {
    runner.resident().ok_or_else(|| {
        Error::input(format!("{} cannot generate answers while it is streamed from disk", model.reference))
            .hint("load it into memory: allow more memory, or choose a smaller quantisation")
            .cause(Cause::NeedsResidentModel)
    })
}
