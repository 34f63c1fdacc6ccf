//! Reading every byte of a checkpoint once, by several threads, a few MiB at a time.

use moerge_checkpoint::{Checkpoint, Fingerprint, Fingerprinter, TensorView, workers};

use moerge_core::numeric::non_finite::NonFinite;
use moerge_core::{
    error::Result,
    progress::{Progress, Stage},
};

/// Bytes read at once: a multiple of every element's width.
const PIECE: usize = 4 << 20;

/// One tensor, and what its bytes are.
pub(super) struct TensorBytes<'a> {
    pub view: &'a TensorView,
    pub outcome: Result<Found>,
}

/// What was found in a tensor's bytes.
pub(super) struct Found {
    /// Taken only where there is something to compare it with.
    pub fingerprint: Option<Fingerprint>,
    pub non_finite: NonFinite,
}

/// Reads all tensors, in the order in which they lie in the files. Errors only where the user stops it.
pub(super) fn all<'a>(
    weights: &'a Checkpoint,
    fingerprints: bool,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<TensorBytes<'a>>> {
    let mut views: Vec<&TensorView> = weights.tensors().collect();
    views.sort_by_key(|view| (&view.file.path, view.offset));
    progress.start(Stage::Read, views.iter().map(|view| view.len).sum(), 0);
    // A stop ends the run; any other error is the outcome of its tensor.
    let read_one = |buffer: &mut Vec<u8>, view: &&TensorView| match one(view, fingerprints, buffer, progress) {
        Err(error) if error.kind() == moerge_core::ErrorKind::Interrupted => Err(error),
        outcome => Ok(outcome),
    };
    let outcomes = workers::try_map_with(&views, threads, Vec::new, read_one).map_err(|(_, error)| error)?;
    progress.check()?;
    let read: Vec<TensorBytes> =
        views.into_iter().zip(outcomes).map(|(view, outcome)| TensorBytes { view, outcome }).collect();
    progress.finish(Stage::Read, "");
    Ok(read)
}

fn one(view: &TensorView, fingerprint: bool, buffer: &mut Vec<u8>, progress: &dyn Progress) -> Result<Found> {
    let mut fingerprinter = fingerprint.then(Fingerprinter::new);
    let mut non_finite = NonFinite::default();
    let mut at = 0;
    while at < view.len {
        progress.check()?;
        let len = PIECE.min(usize::try_from(view.len - at).unwrap_or(PIECE));
        buffer.resize(buffer.len().max(len), 0);
        let piece = &mut buffer[..len];
        view.read_at(at, piece)?;
        if let Some(fingerprinter) = &mut fingerprinter {
            fingerprinter.update(piece);
        }
        non_finite.count(view.dtype, piece);
        at += len as u64;
        progress.advance(Stage::Read, len as u64);
    }
    Ok(Found { fingerprint: fingerprinter.map(|f| f.finish()), non_finite })
}
