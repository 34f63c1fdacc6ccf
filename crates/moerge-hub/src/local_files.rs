//! The files of a folder that is to be pushed: which they are, and what their bytes hash to.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{FileHash, listing::FileHasher};
use moerge_core::{
    error::{Error, Result},
    progress::{Progress, Stage},
};

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Files that are hashed at a time.
const AT_ONCE: usize = 4;
/// Bytes of a file's beginning that the Hub looks at to choose how it is kept.
const SAMPLE: u64 = 512;

/// A file that is to be on the Hub.
#[derive(Debug, Clone)]
pub(super) struct LocalFile {
    /// Its name there.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Its first bytes.
    pub sample: Vec<u8>,
}

/// The files at the top of a folder, sorted. Hidden ones, and folders, stay here; the latter are told of.
pub(super) fn list(folder: &Path, progress: &dyn Progress) -> Result<Vec<LocalFile>> {
    let refused = |e: std::io::Error| Error::io("open", folder, &e);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        let path = entry.path();
        let name = entry.file_name().into_string();
        let name = name.map_err(|name| Error::input(format!("{} is no name for the Hub", name.to_string_lossy())))?;
        if name.starts_with('.') {
            continue;
        }
        let facts = fs::metadata(&path).map_err(|e| Error::io("look at", &path, &e))?;
        if !facts.is_file() {
            progress.note(&format!("{name} is not a file and stays here"));
            continue;
        }
        let mut sample = Vec::new();
        let file = File::open(&path).map_err(|e| Error::io("open", &path, &e))?;
        file.take(SAMPLE).read_to_end(&mut sample).map_err(|e| Error::io("read", &path, &e))?;
        files.push(LocalFile { name, size: facts.len(), sample, path });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let has = |name: &str| files.iter().any(|f| f.name == name);
    if !has("config.json") && !has("adapter_config.json") {
        return Err(Error::input(format!("{} holds no model: it has no config.json", folder.display()))
            .hint("give the folder that `moerge merge` made"));
    }
    Ok(files)
}

/// What each file hashes to; large ones (`lfs`) as LFS does, the others as git does.
pub(super) fn hashes(files: &[(&LocalFile, bool)], progress: &dyn Progress) -> Result<Vec<FileHash>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<FileHash>>>> = Mutex::new(vec![None; files.len()]);
    progress.start(Stage::Read, files.iter().map(|(f, _)| f.size).sum(), 0);
    let work = || {
        while let Some((index, (file, lfs))) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            files.get(index).map(|f| (index, f))
        } {
            let hasher = if *lfs { FileHasher::lfs() } else { FileHasher::git(file.size) };
            let hash = hash(file, hasher, progress);
            if let Some(slot) = results.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
                *slot = Some(hash);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(files.len()) {
            scope.spawn(work);
        }
        work();
    });
    progress.finish(Stage::Read, "");
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}

fn hash(file: &LocalFile, mut hasher: FileHasher, progress: &dyn Progress) -> Result<FileHash> {
    let refused = |e: std::io::Error| Error::io("read", &file.path, &e);
    let mut open = File::open(&file.path).map_err(refused)?;
    let mut buffer = vec![0; CHUNK];
    let mut len = 0;
    loop {
        progress.check()?;
        let read = open.read(&mut buffer).map_err(refused)?;
        if read == 0 {
            break;
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
        progress.advance(Stage::Read, read as u64);
        len += read as u64;
    }
    if len != file.size {
        return Err(Error::input(format!("{} changed while it was read", file.path.display()))
            .hint("leave the folder alone while it is pushed"));
    }
    Ok(hasher.finish())
}
