//! The files of a folder to push, and their hashes.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use moerge_checkpoint::workers;

use super::{FileHash, remote_file::FileHasher};
use moerge_core::{
    error::{Error, Result},
    model::files::{ADAPTER_CONFIG, CONFIG},
    progress::{Progress, Stage},
    suggest::printable,
};

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Files hashed at a time.
const THREADS: usize = 4;
/// Bytes of a file's beginning from which the Hub decides how to store it.
const SAMPLE: u64 = 512;

/// A file to upload.
#[derive(Debug, Clone)]
pub(super) struct LocalFile {
    /// Its name on the Hub.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Its first bytes.
    pub sample: Vec<u8>,
}

/// The files at the top of a folder, sorted by name. Hidden files are left out silently, folders with a note.
pub(super) fn list(folder: &Path, progress: &dyn Progress) -> Result<Vec<LocalFile>> {
    let refused = |e: std::io::Error| Error::io("open", folder, &e);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        let path = entry.path();
        let name = entry.file_name().into_string();
        let name = name.map_err(|name| {
            Error::input(format!("the file name {} is not UTF-8", printable(&name.to_string_lossy())))
                .hint("rename the file; the Hub takes UTF-8 names only")
        })?;
        if name.starts_with('.') {
            continue;
        }
        let facts = fs::metadata(&path).map_err(|e| Error::io("look at", &path, &e))?;
        if !facts.is_file() {
            progress.note(&format!("{} is not a file and is not uploaded", printable(&name)));
            continue;
        }
        let mut sample = Vec::new();
        let file = File::open(&path).map_err(|e| Error::io("open", &path, &e))?;
        file.take(SAMPLE).read_to_end(&mut sample).map_err(|e| Error::io("read", &path, &e))?;
        files.push(LocalFile { name, size: facts.len(), sample, path });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let has = |name: &str| files.iter().any(|f| f.name == name);
    if !has(CONFIG) && !has(ADAPTER_CONFIG) {
        return Err(Error::input(format!(
            "{} holds no model: it has no config.json",
            printable(&folder.display().to_string())
        ))
        .hint("give the folder of a model or of an adapter"));
    }
    Ok(files)
}

/// The hash of each file: of LFS for large files (`true`), of git for the others.
pub(super) fn hashes(files: &[(&LocalFile, bool)], progress: &dyn Progress) -> Result<Vec<FileHash>> {
    progress.start(Stage::Read, files.iter().map(|(f, _)| f.size).fold(0, u64::saturating_add), 0);
    let hashes = workers::try_map(files, THREADS, |(file, lfs)| {
        let hasher = if *lfs { FileHasher::lfs() } else { FileHasher::git(file.size) };
        hash(file, hasher, progress)
    });
    progress.finish(Stage::Read, "");
    hashes.map_err(|(_, error)| error)
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
        return Err(Error::input(format!("{} changed while it was read", printable(&file.path.display().to_string())))
            .hint("do not change the folder during an upload"));
    }
    Ok(hasher.finish())
}
