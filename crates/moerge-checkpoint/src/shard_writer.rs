//! Writes one shard, from several threads. It is called `<name>.part` until it is complete.
//!
//! The order of the last steps makes a crash at any point safe:
//! 1. sync the file: its bytes are durable, under a name that does not count as a shard;
//! 2. write the fingerprints durably: without a finished shard they are ignored;
//! 3. rename to the final name: a file with this name is complete and has fingerprints.
//!
//! A crash before 3 loses the work on this shard; the next run writes it again. With 2 after 3, a
//! crash could leave a finished shard without fingerprints, which would have to be read again.
//!
//! In an object store, the shard appears under its final name when it is synced: the fingerprints are written before. The
//! file that readers start from has none, since it appears when the output is published.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result, io_at};
use crate::fingerprint::Fingerprint;
use crate::output_dir::{Held, OutputDir, write_through};
use crate::shard_layout::Shard;
use crate::storage::{OutputStorage, WriteAt};

/// Bytes of a tensor after which the system is asked to start writing them to the medium. This keeps the medium busy
/// and leaves little for the final sync.
const WRITE_BACK_EVERY: u64 = 8 << 20;

/// A shard under construction. Threads share it by reference.
pub struct ShardWriter {
    storage: Arc<dyn OutputStorage>,
    file: Arc<dyn WriteAt>,
    model_dir: PathBuf,
    kept_dir: PathBuf,
    part: PathBuf,
    /// What the names of unfinished files end with.
    ending: String,
    /// Whether the file appears when it is synced, under the path `part`.
    flat: bool,
    /// Who completes the file, if it is not to appear before the output is published.
    held: Option<Held>,
    shard: Shard,
    /// Bytes written so far per tensor, so that a missing part is never published.
    written: Vec<AtomicU64>,
}

impl ShardWriter {
    /// Creates the file with its full length and its header. An unfinished one is overwritten.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(output: &OutputDir, shard: &Shard) -> Result<ShardWriter> {
        let (storage, model_dir) = (output.storage().clone(), output.model_dir());
        let ending = output.ending().to_owned();
        let flat = output.is_flat();
        let part = match flat {
            true => output.unpublished(&shard.file_name),
            false => model_dir.join(format!("{}{ending}", shard.file_name)),
        };
        // A shard that is written again must not look finished meanwhile: its old file could be
        // combined with the new fingerprints. What another process has just finished is equal.
        if !output.is_shared() && !flat {
            remove_durably(&*storage, &model_dir, &shard.file_name)?;
        }
        let file = storage.create(&part).map_err(io_at("create", &part))?;
        file.set_len(shard.file_len).map_err(io_at("set the length of", &part))?;
        file.write_all_at(&shard.header, 0).map_err(io_at("write", &part))?;
        for (offset, len) in gaps(shard) {
            file.leave_zero(offset, len).map_err(io_at("write", &part))?;
        }
        let written = shard.tensors.iter().map(|_| AtomicU64::new(0)).collect();
        let (kept_dir, held, shard) = (output.kept_dir(), output.holder(&shard.file_name), shard.clone());
        Ok(ShardWriter { storage, file, model_dir, kept_dir, part, ending, flat, held, shard, written })
    }

    /// The shard.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Writes `bytes` at byte `offset` of the tensor with index `placement`. Write each byte once
    /// (zeros do not replace earlier bytes), in any order.
    ///
    /// # Errors
    /// There is no such tensor, the bytes exceed it, or they cannot be written.
    pub fn write(&self, placement: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let len = bytes.len() as u64;
        let outside =
            |tensor: &str, tensor_len| Error::OutOfBounds { tensor: tensor.to_owned(), offset, len, tensor_len };
        let (Some(place), Some(written)) = (self.shard.tensors.get(placement), self.written.get(placement)) else {
            return Err(outside(&format!("number {placement} of {}", self.shard.file_name), 0));
        };
        if offset.checked_add(len).is_none_or(|end| end > place.len) {
            return Err(outside(&place.spec.name, place.len));
        }
        // The new file is all zeros: not writing zeros keeps it sparse, as `cp` does.
        let outcome = match is_zero(bytes) {
            true => self.file.leave_zero(place.offset + offset, len),
            false => self.file.write_all_at(bytes, place.offset + offset),
        };
        outcome.map_err(io_at("write", &self.part))?;
        let (begun, end) =
            (offset / WRITE_BACK_EVERY * WRITE_BACK_EVERY, (offset + len) / WRITE_BACK_EVERY * WRITE_BACK_EVERY);
        if begun < end {
            self.file.start_writing(place.offset + begun, end - begun);
        }
        written.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the shard durable under its final name, with the `fingerprints` of its tensors in their
    /// order.
    ///
    /// # Errors
    /// A tensor is incomplete, the fingerprints are those of other tensors, or the system reports an
    /// error. The shard is then unfinished.
    pub fn finish(self, fingerprints: &[(String, Fingerprint)]) -> Result<()> {
        self.check_complete()?;
        self.check_fingerprints(fingerprints)?;
        if let Some(held) = self.held {
            held.hold(self.part, self.file);
            return Ok(());
        }
        if !self.flat {
            self.file.sync().map_err(io_at("sync", &self.part))?;
        }
        // Writing strings to memory cannot fail; an empty file would only mean that the shard is rewritten.
        let kept = serde_json::to_vec(fingerprints).unwrap_or_default();
        let kept_name = OutputDir::fingerprints_name(&self.shard);
        write_through(&*self.storage, &self.kept_dir, &kept_name, &self.ending, &kept)?;
        if self.flat {
            return self.file.sync().map_err(io_at("finish", &self.part));
        }
        drop(self.file);
        let path = self.model_dir.join(&self.shard.file_name);
        self.storage.rename(&self.part, &path).map_err(io_at("rename", &self.part))?;
        self.storage.sync_dir(&self.model_dir).map_err(io_at("sync", &self.model_dir))
    }

    fn check_complete(&self) -> Result<()> {
        for (place, written) in self.shard.tensors.iter().zip(&self.written) {
            let written = written.load(Ordering::Relaxed);
            if written != place.len {
                return Err(Error::TensorUnfinished {
                    file: self.part.clone(),
                    tensor: place.spec.name.clone(),
                    written,
                    expected: place.len,
                });
            }
        }
        Ok(())
    }

    fn check_fingerprints(&self, fingerprints: &[(String, Fingerprint)]) -> Result<()> {
        let expected: Vec<&str> = self.shard.tensors.iter().map(|place| place.spec.name.as_str()).collect();
        let found: Vec<&str> = fingerprints.iter().map(|(name, _)| name.as_str()).collect();
        let Some(position) = (0..expected.len().max(found.len())).find(|&i| expected.get(i) != found.get(i)) else {
            return Ok(());
        };
        let at = |names: &[&str]| names.get(position).map_or(String::new(), |name| name.to_string());
        let (expected, found) = (at(&expected), at(&found));
        Err(Error::WrongFingerprints { file: self.part.clone(), position, expected, found })
    }
}

/// The offsets and lengths of the bytes between header and tensors, which are zero.
fn gaps(shard: &Shard) -> Vec<(u64, u64)> {
    let mut tensors: Vec<(u64, u64)> = shard.tensors.iter().map(|place| (place.offset, place.len)).collect();
    tensors.sort_unstable();
    tensors.push((shard.file_len, 0));
    let mut end = shard.header.len() as u64;
    let mut gaps = Vec::new();
    for (offset, len) in tensors {
        if offset > end {
            gaps.push((end, offset - end));
        }
        end = end.max(offset + len);
    }
    gaps
}

/// Removes the file `name` in `dir`, if it is there.
fn remove_durably(storage: &dyn OutputStorage, dir: &Path, name: &str) -> Result<()> {
    let path = dir.join(name);
    match storage.remove_file(&path) {
        Ok(()) => storage.sync_dir(dir).map_err(io_at("sync", dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove", &path, error)),
    }
}

/// Whether all bytes are zero.
fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

impl std::fmt::Debug for ShardWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardWriter").field("part", &self.part).finish_non_exhaustive()
    }
}
