//! `pytorch_model.bin`: weights written by `torch.save` (PyTorch 1.6 and later), read without running any code.
//!
//! The file is an uncompressed zip: `data.pkl` lists the tensors, `data/<key>` contains their bytes. A pickle is a
//! program that can call anything. This reader allows the few calls that rebuild tensors and refuses every other one by
//! name. The result is the tensors' locations in the file, as from a safetensors header; their bytes are read in place.
//!
//! Formats: <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>, Python's `pickletools`,
//! `torch/serialization.py`.

mod globals;
mod machine;
mod state_dict;
mod value;
mod zip;

use std::io;

pub use crate::error::PickleError;

use crate::{header::HeaderTensor, storage::ReadAt};

/// The maximum length of `data.pkl` in bytes. A model of ten thousand tensors needs two megabytes.
const MAX_PICKLE_BYTES: u64 = 100_000_000;

/// The start of a file written by PyTorch before 1.6: a pickled magic number.
const LEGACY: &[u8] = &[0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The start of a zip.
const ZIP: &[u8] = b"PK\x03\x04";

/// The location of a storage's bytes in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBytes {
    /// The first byte, from the start of the file.
    pub offset: u64,
    /// The number of bytes.
    pub len: u64,
}

/// Reads the names and locations of a file's tensors. Offsets count from the start of the file.
///
/// # Errors
/// The file cannot be read, has another format, or contains anything but tensors by name.
pub fn read_tensors(file: &dyn ReadAt) -> Result<Vec<HeaderTensor>, PickleError> {
    let mut start = [0; LEGACY.len()];
    let known = start.len().min(usize::try_from(file.len()).unwrap_or(usize::MAX));
    let start = start.get_mut(..known).unwrap_or_default();
    read_at(file, start, 0)?;
    if start == LEGACY {
        return Err(PickleError::Legacy);
    }
    if !start.starts_with(ZIP) {
        return Err(PickleError::NotATorchFile);
    }
    let archive = zip::Archive::read(file)?;
    let folder = archive.folder_of("data.pkl")?;
    if let Some(entry) = archive.find(&format!("{folder}byteorder")) {
        let order = archive.contents(file, entry, 16)?;
        if order != b"little" {
            return Err(PickleError::ByteOrder(String::from_utf8_lossy(&order).into_owned()));
        }
    }
    let entry = archive.find(&format!("{folder}data.pkl")).ok_or(PickleError::NotATorchFile)?;
    let pickle = archive.contents(file, entry, MAX_PICKLE_BYTES)?;
    let mut failed = None;
    let tensors = tensors_of(&pickle, &mut |key| {
        let entry = archive.find(&format!("{folder}data/{key}"))?;
        match archive.place(file, entry) {
            Ok(place) => Some(place),
            Err(problem) => {
                failed.get_or_insert(problem);
                None
            }
        }
    });
    match failed {
        Some(problem) => Err(problem),
        None => tensors,
    }
}

/// The tensors that a `data.pkl` rebuilds, sorted by name; `storage` returns the location of a storage.
///
/// # Errors
/// The pickle does anything but rebuild tensors by name, or a tensor exceeds its storage.
pub fn tensors_of(
    pickle: &[u8],
    storage: &mut dyn FnMut(&str) -> Option<StoredBytes>,
) -> Result<Vec<HeaderTensor>, PickleError> {
    let (values, root) = machine::run(pickle)?;
    state_dict::tensors(&values, root, storage)
}

fn read_at(file: &dyn ReadAt, buffer: &mut [u8], offset: u64) -> Result<(), PickleError> {
    file.read_exact_at(buffer, offset).map_err(|e: io::Error| PickleError::Read(e.to_string(), e.kind()))
}
