//! A file that a build reads: its path, its length and modification time when it was opened, and a
//! handle. Large merges read hundreds of shards, and some systems limit a process to 256 open files,
//! so only the first hundred handles stay open; the others are closed after use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, HeaderError, Result, io_at};
use crate::header::{Header, LENGTH_BYTES, MAX_HEADER_BYTES};
use crate::pickle;
use crate::storage::{Facts, FileKind, ReadAt, ReadStorage};

/// Maximum number of unused handles that stay open, per process.
const KEPT_OPEN: usize = 100;

/// Bytes per sample of a content tag.
const TAG_PIECE: u64 = 16 << 10;
/// Samples of a content tag.
const TAG_PIECES: u64 = 33;
/// Bytes read at once for a hash of all.
const HASH_PIECE: u64 = 8 << 20;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A weight file of a checkpoint.
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// Its modification time in nanoseconds since 1970.
    pub modified_ns: i64,
    storage: Arc<dyn ReadStorage>,
    handle: Mutex<Handle>,
    tag: OnceLock<u128>,
}

enum Handle {
    Kept(Arc<dyn ReadAt>),
    WhileRead(Weak<dyn ReadAt>),
    Closed,
}

/// A file and its parsed header.
pub(crate) type Opened = (Arc<SourceFile>, Header);

impl SourceFile {
    /// Opens a safetensors file and reads its header.
    pub(crate) fn open(storage: &Arc<dyn ReadStorage>, path: &Path) -> Result<Opened> {
        let pickled = path.extension().is_some_and(|extension| extension == "bin");
        let (header, facts) = if pickled { read_pickle(&**storage, path)? } else { read_header(&**storage, path)? };
        let file = SourceFile {
            path: path.to_owned(),
            len: facts.len,
            modified_ns: facts.modified_ns,
            storage: storage.clone(),
            handle: Mutex::new(Handle::Closed),
            tag: OnceLock::new(),
        };
        Ok((Arc::new(file), header))
    }

    /// A handle for reading, which stays open while it is held.
    ///
    /// # Errors
    /// The file cannot be opened any more, or its length changed.
    pub fn handle(&self) -> Result<Arc<dyn ReadAt>> {
        let mut handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        match &*handle {
            Handle::Kept(open) => return Ok(open.clone()),
            Handle::WhileRead(open) => {
                if let Some(open) = open.upgrade() {
                    return Ok(open);
                }
            }
            Handle::Closed => {}
        }
        let open = self.storage.open(&self.path).map_err(io_at("open", &self.path))?;
        if open.len() != self.len {
            return Err(self.changed(format!("it had {} bytes, now {}", self.len, open.len())));
        }
        *handle = if OPEN.fetch_add(1, Ordering::Relaxed) < KEPT_OPEN {
            Handle::Kept(open.clone())
        } else {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            Handle::WhileRead(Arc::downgrade(&open))
        };
        Ok(open)
    }

    /// Checks that length and modification time are those of when the file was opened.
    ///
    /// # Errors
    /// They changed, or cannot be read any more.
    pub fn check_unchanged(&self) -> Result<()> {
        let now = self.storage.facts(&self.path).map_err(io_at("look at", &self.path))?;
        if now.len != self.len {
            return Err(self.changed(format!("it had {} bytes, now {}", self.len, now.len)));
        }
        if now.modified_ns != self.modified_ns {
            return Err(self.changed("it was written to".to_owned()));
        }
        Ok(())
    }

    /// A hash of all bytes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn content_hash(&self) -> Result<u128> {
        self.hash_of(0, self.len)
    }

    /// A hash of `len` bytes from `offset` on.
    pub(crate) fn hash_of(&self, offset: u64, len: u64) -> Result<u128> {
        let file = self.handle()?;
        let mut hash = Xxh3::new();
        let mut piece = vec![0; HASH_PIECE.min(len) as usize];
        let mut done = 0;
        while done < len {
            let length = (len - done).min(HASH_PIECE) as usize;
            file.read_exact_at(&mut piece[..length], offset + done).map_err(io_at("read", &self.path))?;
            hash.update(&piece[..length]);
            done += length as u64;
        }
        Ok(hash.digest128())
    }

    /// A hash that identifies the content on every machine: of the length, and of the hash that the storage knows or
    /// else of evenly spaced samples, including the header. Files that differ only between the samples have the same
    /// tag.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn content_tag(&self) -> Result<u128> {
        if let Some(tag) = self.tag.get() {
            return Ok(*tag);
        }
        let mut hash = Xxh3::new();
        hash.update(&self.len.to_le_bytes());
        if let Some(known) = self.storage.content_hash(&self.path) {
            hash.update(&known);
            return Ok(*self.tag.get_or_init(|| hash.digest128()));
        }
        let file = self.handle()?;
        let last = self.len.saturating_sub(TAG_PIECE);
        let count = if last == 0 { 1 } else { TAG_PIECES };
        let piece = |number| (last * number / (TAG_PIECES - 1), vec![0; TAG_PIECE.min(self.len) as usize]);
        let mut pieces: Vec<(u64, Vec<u8>)> = (0..count).map(piece).collect();
        file.read_each_at(&mut pieces).map_err(io_at("read", &self.path))?;
        pieces.iter().for_each(|(_, piece)| hash.update(piece));
        Ok(*self.tag.get_or_init(|| hash.digest128()))
    }

    fn changed(&self, what: String) -> Error {
        Error::SourceChanged { file: self.path.clone(), what }
    }
}

impl Drop for SourceFile {
    fn drop(&mut self) {
        let handle = self.handle.get_mut().unwrap_or_else(PoisonError::into_inner);
        if matches!(handle, Handle::Kept(_)) {
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceFile")
            .field("path", &self.path)
            .field("len", &self.len)
            .field("modified_ns", &self.modified_ns)
            .finish_non_exhaustive()
    }
}

impl Header {
    /// Reads only the header of a file.
    ///
    /// # Errors
    /// The file cannot be read, is not a file, is a git-lfs pointer, or breaks the format.
    pub fn read(storage: &dyn ReadStorage, path: &Path) -> Result<Header> {
        Ok(read_header(storage, path)?.0)
    }
}

/// The start of a git-lfs pointer (<https://git-lfs.com/spec/v1>).
pub(crate) const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// Reads the tensors of a `pytorch_model.bin` as a header with offsets from the start of the file.
fn read_pickle(storage: &dyn ReadStorage, path: &Path) -> Result<(Header, Facts)> {
    let facts = storage.facts(path).map_err(io_at("open", path))?;
    if facts.kind != FileKind::File {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    let file = storage.open(path).map_err(io_at("open", path))?;
    let mut start = vec![0; LFS_POINTER.len().min(usize::try_from(facts.len).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut start, 0).map_err(io_at("read", path))?;
    if start == LFS_POINTER {
        return Err(Error::LfsPointer { file: path.to_owned() });
    }
    let tensors = pickle::read_tensors(&*file).map_err(|problem| Error::Pickle { file: path.to_owned(), problem })?;
    Ok((Header { tensors, metadata: Default::default(), data_start: 0 }, facts))
}

/// Reads the header of a safetensors file.
pub(crate) fn read_header(storage: &dyn ReadStorage, path: &Path) -> Result<(Header, Facts)> {
    let facts = storage.facts(path).map_err(io_at("open", path))?;
    if facts.kind != FileKind::File {
        // Check first, because opening a pipe could block forever.
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    let broken = |problem| Error::Header { file: path.to_owned(), problem };
    let file_len = facts.len;
    if file_len == 0 {
        return Err(broken(HeaderError::Empty));
    }
    if file_len < LENGTH_BYTES {
        return Err(broken(HeaderError::TooShort { file_len }));
    }
    let file = storage.open(path).map_err(io_at("open", path))?;
    let read =
        |buffer: &mut [u8], offset| file.read_exact_at(buffer, offset).map_err(io_at("read the header of", path));
    let mut start = [0; LFS_POINTER.len()];
    let start = &mut start[..file_len.min(LFS_POINTER.len() as u64) as usize];
    read(start, 0)?;
    if start == LFS_POINTER {
        return Err(Error::LfsPointer { file: path.to_owned() });
    }
    let mut len_bytes = [0; LENGTH_BYTES as usize];
    len_bytes.copy_from_slice(&start[..LENGTH_BYTES as usize]);
    let len = u64::from_le_bytes(len_bytes);
    if len > MAX_HEADER_BYTES {
        return Err(broken(HeaderError::TooLong { len, limit: MAX_HEADER_BYTES }));
    }
    let header_end = LENGTH_BYTES + len;
    if header_end > file_len {
        return Err(broken(HeaderError::Truncated { header_end, file_len }));
    }
    let mut json = vec![0; len as usize];
    read(&mut json, LENGTH_BYTES)?;
    Ok((Header::parse(&json, file_len).map_err(broken)?, facts))
}
