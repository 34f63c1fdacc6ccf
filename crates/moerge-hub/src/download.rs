//! Downloads one file into the cache, in huggingface_hub's layout: the bytes in `blobs/<hash>`, a link to them in
//! `snapshots/<commit>/<name>`. Until length and hash match what the Hub announced, the file is `<hash>.incomplete`, to
//! which the next try, or the next run, appends.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{
    Hub, RemoteFile,
    http::{Answer, Failure, Request, RetryPolicy, escaped, network},
    lock::lock,
    remote_file::FileHasher,
};
use moerge_core::{
    error::{Error, Result},
    model::locate::{HubId, RepoKind},
    suggest::printable,
};

/// Bytes read and written at once.
const CHUNK: usize = 256 << 10;

/// A commit of a model in the cache.
#[derive(Debug, Clone)]
pub(super) struct CachedCommit {
    /// The model.
    pub id: HubId,
    /// Its commit.
    pub commit: String,
    /// `models--org--name`.
    pub folder: PathBuf,
}

/// Receives the progress of a download.
pub(super) trait DownloadWatch: Sync {
    /// This many more bytes have arrived. Bytes that are fetched again do not count again.
    fn arrived(&self, bytes: u64);
    /// A line for the user.
    fn note(&self, message: &str);
}

impl CachedCommit {
    /// The folder of the commit's files.
    pub fn snapshot(&self) -> PathBuf {
        self.folder.join("snapshots").join(&self.commit)
    }

    /// Whether a file is complete.
    pub fn has(&self, file: &RemoteFile) -> bool {
        fs::metadata(self.snapshot().join(&file.name)).is_ok_and(|m| m.is_file() && m.len() == file.size)
    }

    /// Bytes of a file that are still to be downloaded.
    pub fn missing(&self, file: &RemoteFile) -> u64 {
        let len = |path: PathBuf| fs::metadata(path).map(|m| m.len()).ok();
        if self.has(file) || len(self.blob(file)) == Some(file.size) {
            return 0;
        }
        let there = len(self.incomplete(file)).filter(|len| *len <= file.size);
        file.size - there.unwrap_or(0)
    }

    fn blob(&self, file: &RemoteFile) -> PathBuf {
        self.folder.join("blobs").join(file.hash.to_string())
    }

    fn incomplete(&self, file: &RemoteFile) -> PathBuf {
        self.folder.join("blobs").join(format!("{}.incomplete", file.hash))
    }

    fn lock(&self, file: &RemoteFile) -> PathBuf {
        let cache = self.folder.parent().unwrap_or(Path::new("."));
        let repo = self.folder.file_name().unwrap_or_default();
        cache.join(".locks").join(repo).join(format!("{}.lock", file.hash))
    }

    /// Makes `revision` refer to this commit, atomically.
    pub fn point_here(&self, revision: &str) -> Result<()> {
        if revision == self.commit {
            return Ok(());
        }
        let reference = self.folder.join("refs").join(revision);
        let write = || {
            if fs::read_to_string(&reference).is_ok_and(|there| there == self.commit) {
                return Ok(());
            }
            fs::create_dir_all(reference.parent().unwrap_or(&self.folder))?;
            let new = beside(&reference);
            fs::write(&new, &self.commit)?;
            fs::rename(&new, &reference)
        };
        write().map_err(|e| Error::io("write", &reference, &e))
    }
}

impl Hub {
    /// Downloads a file into the cache unless it is there. Returns its path in the snapshot.
    pub(super) fn download(
        &self,
        place: &CachedCommit,
        file: &RemoteFile,
        watch: &dyn DownloadWatch,
    ) -> Result<PathBuf> {
        let pointer = place.snapshot().join(&file.name);
        if place.has(file) {
            return Ok(pointer);
        }
        let run = || {
            let note = || {
                let note = format!("waiting for another process that downloads {} of {}", file.name, place.id);
                watch.note(&self.http.redactor().clean(&note));
            };
            let _lock = lock(&place.lock(file), &self.http, &note)?;
            let blob = place.blob(file);
            // It may be there already: from another commit, or downloaded by the other process.
            if fs::metadata(&blob).map(|m| m.len()).ok() != Some(file.size) {
                self.fetch(place, file, watch)?;
                rename(&place.incomplete(file), &blob)?;
            }
            let folders = file.name.matches('/').count();
            link(&blob, &pointer, folders).map_err(local("write", &pointer))
        };
        run().map_err(|failure| self.error(self.subject(&place.id, Some(&file.name), "download"), failure))?;
        Ok(pointer)
    }

    /// The address of a file.
    pub(super) fn address(&self, id: &HubId, commit: &str, name: &str) -> String {
        let kind = match id.kind {
            RepoKind::Model => "",
            RepoKind::DataSet => "datasets/",
        };
        let name: Vec<String> = name.split('/').map(escaped).collect();
        format!("{}/{kind}{}/resolve/{commit}/{}", self.settings.endpoint, id.id, name.join("/"))
    }

    /// Downloads into the incomplete file until it is whole, and checks its hash.
    fn fetch(&self, place: &CachedCommit, file: &RemoteFile, watch: &dyn DownloadWatch) -> Result<(), Failure> {
        let path = place.incomplete(file);
        fs::create_dir_all(place.folder.join("blobs")).map_err(local("create", &place.folder))?;
        let mut part = IncompleteFile::open(&path, file)?;
        // Bytes of an earlier run are counted already, and bytes that are fetched twice count once.
        let begun = part.len;
        let mut furthest = begun;
        let url = self.address(&place.id, &place.commit, &file.name);
        let mut retries = RetryPolicy::new();
        loop {
            let before = part.len;
            let ended = self.append(&url, file, &mut part, &mut |len| {
                if len > furthest {
                    watch.arrived(len - furthest);
                    furthest = len;
                }
            });
            match ended.and_then(|()| part.check(file)) {
                Ok(()) => return part.file.sync_all().map_err(local("write", &path)),
                Err(failure) => {
                    // Any byte that arrived is progress: a connection that often breaks still works.
                    if part.len > before && matches!(failure, Failure::Network { .. }) {
                        retries = RetryPolicy::new();
                    }
                    if matches!(failure, Failure::Wrong(_)) {
                        part.restart(file)?;
                    }
                    let failure = if furthest > begun { failure.after_contact() } else { failure };
                    let wait = retries.after(failure).inspect_err(|failure| {
                        if matches!(failure, Failure::Wrong(_)) {
                            let _ = fs::remove_file(&path);
                        }
                    })?;
                    self.http.wait(wait)?;
                }
            }
        }
    }

    /// Requests the bytes after those in the file, and appends them.
    fn append(
        &self,
        url: &str,
        file: &RemoteFile,
        part: &mut IncompleteFile,
        on_len: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        if part.len == file.size {
            return Ok(());
        }
        let mut request = Request::get(url);
        if part.len > 0 {
            request.headers.push(("range", format!("bytes={}-", part.len)));
        }
        let answer = self.http.once(&request)?;
        check_range(&answer, part.len, file.size)?;
        if answer.status != 206 && part.len > 0 {
            part.restart(file)?;
        }
        let mut body = answer.body.into_reader();
        let mut buffer = vec![0; CHUNK];
        loop {
            if self.http.stopped() {
                return Err(Failure::Stopped);
            }
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) if self.http.stopped() => return Err(Failure::Stopped),
                Err(e) => return Err(network(&ureq::Error::from(e))),
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            if part.len + read as u64 > file.size {
                return Err(Failure::Wrong(format!(
                    "it is longer than the {} bytes that the Hub announced",
                    file.size
                )));
            }
            part.append(bytes)?;
            on_len(part.len);
        }
        if part.len < file.size {
            return Err(Failure::Network { what: "the connection was closed early".into(), unreachable: false });
        }
        Ok(())
    }
}

/// An incomplete file, and the hash of its bytes so far.
struct IncompleteFile {
    file: File,
    path: PathBuf,
    len: u64,
    hasher: FileHasher,
}

impl IncompleteFile {
    /// Opens or creates it. Bytes that are there are read for the hash.
    fn open(path: &Path, expected: &RemoteFile) -> Result<Self, Failure> {
        let open = || OpenOptions::new().create(true).append(true).read(true).open(path);
        let mut part = Self {
            file: open().map_err(local("create", path))?,
            path: path.to_owned(),
            len: 0,
            hasher: expected.hash.hasher(expected.size),
        };
        let mut buffer = vec![0; CHUNK];
        loop {
            match part.file.read(&mut buffer).map_err(local("read", path))? {
                0 => break,
                read => {
                    part.hasher.update(buffer.get(..read).unwrap_or_default());
                    part.len += read as u64;
                }
            }
        }
        if part.len > expected.size {
            part.restart(expected)?;
        }
        Ok(part)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(local("write", &self.path))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self, expected: &RemoteFile) -> Result<(), Failure> {
        self.file.set_len(0).map_err(local("write", &self.path))?;
        self.hasher = expected.hash.hasher(expected.size);
        self.len = 0;
        Ok(())
    }

    fn check(&self, expected: &RemoteFile) -> Result<(), Failure> {
        let found = self.hasher.clone().finish();
        if found == expected.hash {
            return Ok(());
        }
        Err(Failure::Wrong(format!(
            "its bytes are damaged: their hash is {found}, but the Hub announced {}",
            expected.hash
        )))
    }
}

/// Checks that an answer holds the bytes after `from` of a file of `size` bytes, or all of them.
pub(super) fn check_range(answer: &Answer, from: u64, size: u64) -> Result<(), Failure> {
    let wrong = |what: String| Err(Failure::Wrong(format!("{what}, but the Hub announced {size} bytes")));
    if answer.status == 206 {
        let range = answer.header("content-range").unwrap_or_default();
        let parsed = range
            .strip_prefix("bytes ")
            .and_then(|r| r.split_once('/'))
            .and_then(|(part, total)| Some((part.split_once('-')?.0.parse::<u64>().ok()?, total.parse::<u64>().ok()?)));
        return match parsed {
            Some((start, total)) if start == from && total == size => Ok(()),
            _ => wrong(format!("the answer is the range {} where {from}- was asked for", printable(range))),
        };
    }
    match answer.header("content-length").and_then(|l| l.parse::<u64>().ok()) {
        Some(length) if length != size => wrong(format!("the answer is a file of {length} bytes")),
        _ => Ok(()),
    }
}

/// Turns an I/O error of this machine into a failure, with a hint.
pub(super) fn local(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> Failure {
    move |e| {
        let hint = match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room, or set HF_HOME to a larger disk, and rerun the command to resume"
            }
            io::ErrorKind::FileTooLarge => "the file exceeds a limit of `ulimit -f` or of the file system",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "set HF_HOME to a folder that is writable"
            }
            _ => return Failure::Local(Box::new(Error::io(verb, path, &e))),
        };
        Failure::Local(Box::new(Error::io(verb, path, &e).hint(hint)))
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::rename(from, to).map_err(local("write", to))
}

/// The temporary name under which this process writes what will replace `path`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Makes `pointer`, which is `folders` folders deep in its snapshot, refer to `blob`: by a relative symbolic link where the
/// system allows it, else a hard link or a copy.
fn link(blob: &Path, pointer: &Path, folders: usize) -> io::Result<()> {
    let (Some(dir), Some(name)) = (pointer.parent(), blob.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(dir)?;
    let new = beside(pointer);
    let _ = fs::remove_file(&new);
    // snapshots/<commit>/<name> -> ../../blobs/<hash>
    let up = std::iter::repeat_n("..", 2 + folders);
    let target: PathBuf = up.chain(["blobs"]).map(Path::new).chain([Path::new(name)]).collect();
    symlink(&target, &new).or_else(|_| fs::hard_link(blob, &new)).or_else(|_| fs::copy(blob, &new).map(drop))?;
    fs::rename(&new, pointer)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}
