//! The local file system, through the standard library: positioned reads and writes, no memory
//! mapping (a mapped file that shrinks kills the process, and its pages count as memory).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::{Facts, FileKind, Lock, OutputStorage, ReadAt, ReadStorage, WriteAt, not_regular};

/// The local file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalStorage;

impl LocalStorage {
    /// As the shared trait object that the rest of the crate takes.
    pub fn shared() -> Arc<dyn OutputStorage> {
        Arc::new(LocalStorage)
    }
}

impl ReadStorage for LocalStorage {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>> {
        // Check before opening, because merely opening some devices has side effects, and after, because
        // the path may have changed.
        regular(&fs::metadata(path)?)?;
        let mut options = OpenOptions::new();
        let file = without_blocking(options.read(true)).open(path)?;
        let metadata = file.metadata()?;
        regular(&metadata)?;
        Ok(Arc::new(ReadFile { file, len: metadata.len() }))
    }

    fn facts(&self, path: &Path) -> io::Result<Facts> {
        fs::metadata(path).map(|metadata| facts(&metadata))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let names: io::Result<Vec<OsString>> =
            fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name())).collect();
        let mut names = names?;
        names.sort_unstable();
        Ok(names)
    }
}

impl OutputStorage for LocalStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn WriteAt>> {
        match fs::symlink_metadata(path) {
            Ok(there) => regular(&there)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let file = without_following(&mut options).open(path)?;
        regular(&file.metadata()?)?;
        Ok(Arc::new(WriteFile(file)))
    }

    fn link_facts(&self, path: &Path) -> io::Result<Facts> {
        fs::symlink_metadata(path).map(|metadata| facts(&metadata))
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => fs::canonicalize(path),
            _ => Ok(path.to_owned()),
        }
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    #[cfg(unix)]
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match File::open(dir)?.sync_all() {
            // Some network and FUSE file systems do not support syncing folders.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
            other => other,
        }
    }

    #[cfg(not(unix))]
    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        fs4::available_space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        lock_by(path, File::try_lock)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Lock>> {
        lock_by(path, File::try_lock_shared)
    }
}

fn lock_by(path: &Path, try_lock: fn(&File) -> Result<(), TryLockError>) -> io::Result<Option<Lock>> {
    // The holder finally removes its lock file. Another process that opened it just before would lock
    // a file without a name, so check the name once the lock is held.
    for _ in 0..100 {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let file = without_following(&mut options).open(path)?;
        regular(&file.metadata()?)?;
        match try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            // A file system without locks: better unlocked than unusable.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if is_at(&file, path)? {
            return Ok(Some(Lock::new(file)));
        }
    }
    Ok(None)
}

fn facts(metadata: &fs::Metadata) -> Facts {
    let modified_ns = match metadata.modified().map(|time| time.duration_since(UNIX_EPOCH)) {
        Ok(Ok(after)) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Ok(Err(before)) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
        Err(_) => 0,
    };
    Facts { len: metadata.len(), modified_ns, kind: kind(metadata), device: device(metadata) }
}

fn kind(metadata: &fs::Metadata) -> FileKind {
    if metadata.is_file() {
        FileKind::File
    } else if metadata.is_dir() {
        FileKind::Dir
    } else if metadata.is_symlink() {
        FileKind::Link
    } else {
        FileKind::Other
    }
}

fn regular(metadata: &fs::Metadata) -> io::Result<()> {
    match kind(metadata) {
        FileKind::File => Ok(()),
        other => Err(not_regular(other)),
    }
}

/// Opening a pipe returns at once instead of waiting for its other end.
#[cfg(unix)]
fn without_blocking(options: &mut OpenOptions) -> &mut OpenOptions {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32)
}

/// Like [`without_blocking`], and a symbolic link as the last component is an error.
#[cfg(unix)]
fn without_following(options: &mut OpenOptions) -> &mut OpenOptions {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW).bits() as i32)
}

#[cfg(not(unix))]
fn without_blocking(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(not(unix))]
fn without_following(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Whether `path` still refers to this open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> io::Result<bool> {
    fs::exists(path)
}

#[cfg(unix)]
fn device(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    metadata.dev()
}

#[cfg(not(unix))]
fn device(_metadata: &fs::Metadata) -> u64 {
    0
}

struct ReadFile {
    file: File,
    len: u64,
}

impl ReadAt for ReadFile {
    #[cfg(unix)]
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        use std::os::windows::fs::FileExt;
        while !buffer.is_empty() {
            match self.file.seek_read(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }
}

struct WriteFile(File);

impl WriteAt for WriteFile {
    #[cfg(unix)]
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    #[cfg(windows)]
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        use std::os::windows::fs::FileExt;
        while !bytes.is_empty() {
            match self.0.seek_write(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    /// On this advice, Linux starts writing dirty pages; they stay cached until they are written. Call this once per
    /// range, right after writing it.
    #[cfg(target_os = "linux")]
    fn start_writing(&self, offset: u64, len: u64) {
        let len = std::num::NonZeroU64::new(len);
        // If the advice is not supported, the final sync takes longer.
        rustix::fs::fadvise(&self.0, offset, len, rustix::fs::Advice::DontNeed).ok();
    }

    #[cfg(not(target_os = "linux"))]
    fn start_writing(&self, _offset: u64, _len: u64) {}
}
