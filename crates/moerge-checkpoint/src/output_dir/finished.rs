//! Which shards an earlier run finished, according to the files on the disk alone.

use super::OutputDir;
use crate::error::{Result, io_at};
use crate::fingerprint::TensorFingerprints;
use crate::shard_layout::Shard;
use crate::storage::FileKind;

/// The fingerprints of a finished shard, or `None` if it must be written.
pub(super) fn fingerprints(output: &OutputDir, shard: &Shard) -> Result<Option<TensorFingerprints>> {
    // What is there of a held file is an earlier output.
    if output.is_held(&shard.file_name) {
        return Ok(None);
    }
    let path = output.unpublished(&shard.file_name);
    match output.facts(&path)? {
        Some(facts) if facts.kind == FileKind::File && facts.len == shard.file_len => {}
        _ => return Ok(None),
    }
    let mut header = vec![0; shard.header.len()];
    let file = output.storage.open(&path).map_err(io_at("open", &path))?;
    file.read_exact_at(&mut header, 0).map_err(io_at("read", &path))?;
    if header != shard.header {
        return Ok(None);
    }
    let kept = output.kept(&OutputDir::fingerprints_name(shard))?;
    let parsed: Option<TensorFingerprints> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Ok(parsed.filter(|fingerprints| {
        let names = fingerprints.iter().map(|(name, _)| name);
        names.eq(shard.tensors.iter().map(|tensor| &tensor.spec.name))
    }))
}
