//! Reading a text file that the user wrote.

use std::path::Path;

use moerge_checkpoint::{FileKind, LocalStorage, ReadStorage};

use crate::error::{Error, Result};

/// Reads a text file of at most `max_bytes` bytes, without its byte-order mark.
///
/// # Errors
/// It is not a regular file, is larger, cannot be read, or is not UTF-8.
pub fn read_text(path: &Path, max_bytes: u64) -> Result<String> {
    let io = |operation: &str, error: std::io::Error| Error::io(operation, path, &error);
    // Only regular files: a pipe would block, and a device might never end.
    let kind = match LocalStorage.facts(path).map_err(|e| io("open", e))?.kind {
        FileKind::File => None,
        FileKind::Dir => Some("a folder"),
        FileKind::Link | FileKind::Other => Some("not a file"),
    };
    if let Some(kind) = kind {
        return Err(Error::input(format!("{} is {kind}, expected a text file", path.display())));
    }
    let file = LocalStorage.open(path).map_err(|e| io("open", e))?;
    if file.len() > max_bytes {
        return Err(Error::input(format!("{} is larger than {} MiB", path.display(), max_bytes >> 20)));
    }
    let mut bytes = vec![0; file.len() as usize];
    file.read_exact_at(&mut bytes, 0).map_err(|e| io("read", e))?;
    let text = String::from_utf8(bytes).map_err(|e| not_utf8(path, e.utf8_error().valid_up_to(), e.as_bytes()))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn not_utf8(path: &Path, at: usize, bytes: &[u8]) -> Error {
    let line = bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
    let byte = bytes.get(at).copied().unwrap_or_default();
    let message = format!("{} is not UTF-8 text: byte {at} (line {line}) is 0x{byte:02x}", path.display());
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Error::input(message).hint("it is UTF-16; save it as UTF-8"),
        _ => Error::input(message).hint("save it as UTF-8"),
    }
}
