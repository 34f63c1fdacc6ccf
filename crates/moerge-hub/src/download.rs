//! One file into the cache, as huggingface_hub lays it out: the bytes in `blobs/<hash>`, a link to them in
//! `snapshots/<commit>/<name>`. Until its length and hash are those that the Hub announced, it is `<hash>.incomplete`, to
//! which a later try, or a later run, appends where the bytes end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{
    Hub, RemoteFile,
    http::{Answer, Ask, Failure, Patience, escaped, network},
    listing::FileHasher,
    lock::lock,
};
use moerge_core::{
    error::{Error, Result},
    model::locate::HubId,
    suggest::printable,
};

/// Bytes read and written at once.
const CHUNK: usize = 256 << 10;

/// A commit of a model in the cache.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The model.
    pub id: HubId,
    /// Its commit.
    pub commit: String,
    /// `models--org--name`.
    pub folder: PathBuf,
}

/// What a download tells on its way.
pub(super) trait Watch: Sync {
    /// So many more bytes are there. Bytes that had to be fetched again are not told twice.
    fn arrived(&self, bytes: u64);
    /// Something worth a line.
    fn note(&self, message: &str);
}

impl Place {
    /// The folder with the commit's files.
    pub fn snapshot(&self) -> PathBuf {
        self.folder.join("snapshots").join(&self.commit)
    }

    /// Whether a file is there, whole.
    pub fn has(&self, file: &RemoteFile) -> bool {
        fs::metadata(self.snapshot().join(&file.name)).is_ok_and(|m| m.is_file() && m.len() == file.size)
    }

    /// Bytes of a file that have to be downloaded yet.
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

    /// Makes `revision` mean this commit, in one step.
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
    /// Brings a file into the cache. Nothing is asked if it is there.
    pub(super) fn download(&self, place: &Place, file: &RemoteFile, watch: &dyn Watch) -> Result<PathBuf> {
        let pointer = place.snapshot().join(&file.name);
        if place.has(file) {
            return Ok(pointer);
        }
        let run = || {
            let waits =
                || watch.note(&format!("waiting for another process that downloads {} of {}", file.name, place.id));
            let _lock = lock(&place.lock(file), &self.http, &waits)?;
            let blob = place.blob(file);
            // It may be there already: of another commit, or brought by the process that was waited for.
            if fs::metadata(&blob).map(|m| m.len()).ok() != Some(file.size) {
                self.fetch(place, file, watch)?;
                rename(&place.incomplete(file), &blob)?;
            }
            link(&blob, &pointer).map_err(here("write", &pointer))
        };
        run().map_err(|failure| self.subject(&place.id, Some(&file.name), "download").error(failure))?;
        Ok(pointer)
    }

    /// The address of a file.
    pub(super) fn address(&self, id: &HubId, commit: &str, name: &str) -> String {
        format!("{}/{}/resolve/{commit}/{}", self.settings.endpoint, id.id, escaped(name))
    }

    /// Fills the incomplete file and checks it.
    fn fetch(&self, place: &Place, file: &RemoteFile, watch: &dyn Watch) -> Result<(), Failure> {
        let path = place.incomplete(file);
        fs::create_dir_all(place.folder.join("blobs")).map_err(here("create", &place.folder))?;
        let mut part = Part::open(&path, file)?;
        // What was there when this began was counted as there; bytes up to the furthest point are told once.
        let begun = part.len;
        let mut furthest = begun;
        let url = self.address(&place.id, &place.commit, &file.name);
        let mut patience = Patience::new();
        loop {
            let before = part.len;
            let ended = self.append(&url, file, &mut part, &mut |len| {
                if len > furthest {
                    watch.arrived(len - furthest);
                    furthest = len;
                }
            });
            match ended.and_then(|()| part.check(file)) {
                Ok(()) => return part.file.sync_all().map_err(here("write", &path)),
                Err(failure) => {
                    // Whatever came is progress, and a line that is cut often is a line all the same.
                    if part.len > before && matches!(failure, Failure::Network { .. }) {
                        patience = Patience::new();
                    }
                    if matches!(failure, Failure::Wrong(_)) {
                        part.restart(file)?;
                    }
                    let failure = if furthest > begun { failure.on_the_way() } else { failure };
                    let wait = patience.after(failure).inspect_err(|failure| {
                        if matches!(failure, Failure::Wrong(_)) {
                            let _ = fs::remove_file(&path);
                        }
                    })?;
                    self.http.wait(wait)?;
                }
            }
        }
    }

    /// Asks for the bytes after those that are there, and appends what comes.
    fn append(&self, url: &str, file: &RemoteFile, part: &mut Part, came: &mut dyn FnMut(u64)) -> Result<(), Failure> {
        if part.len == file.size {
            return Ok(());
        }
        let mut ask = Ask::get(url);
        if part.len > 0 {
            ask.headers.push(("range", format!("bytes={}-", part.len)));
        }
        let answer = self.http.once(&ask)?;
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
                return Err(Failure::Wrong(format!("more came than the {} bytes that the Hub announced", file.size)));
            }
            part.append(bytes)?;
            came(part.len);
        }
        if part.len < file.size {
            return Err(Failure::Network { what: "the connection was closed early".into(), unreachable: false });
        }
        Ok(())
    }
}

/// The incomplete file, and the hash of what is in it.
struct Part {
    file: File,
    path: PathBuf,
    len: u64,
    hasher: FileHasher,
}

impl Part {
    /// Opens it where it is; what is in it is read again for the hash.
    fn open(path: &Path, expected: &RemoteFile) -> Result<Self, Failure> {
        let open = || OpenOptions::new().create(true).append(true).read(true).open(path);
        let mut part = Self {
            file: open().map_err(here("create", path))?,
            path: path.to_owned(),
            len: 0,
            hasher: expected.hash.hasher(expected.size),
        };
        let mut buffer = vec![0; CHUNK];
        loop {
            match part.file.read(&mut buffer).map_err(here("read", path))? {
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
        self.file.write_all(bytes).map_err(here("write", &self.path))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self, expected: &RemoteFile) -> Result<(), Failure> {
        self.file.set_len(0).map_err(here("write", &self.path))?;
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
            "its bytes are damaged: their hash is {found}, the Hub announced {}",
            expected.hash
        )))
    }
}

/// The bytes of an answer must be those after `from` of a file of `size` bytes, or all of them.
pub(super) fn check_range(answer: &Answer, from: u64, size: u64) -> Result<(), Failure> {
    let wrong = |what: String| Err(Failure::Wrong(format!("{what}, the Hub announced {size} bytes")));
    if answer.status == 206 {
        let range = answer.header("content-range").unwrap_or_default();
        let parsed = range
            .strip_prefix("bytes ")
            .and_then(|r| r.split_once('/'))
            .and_then(|(part, total)| Some((part.split_once('-')?.0.parse::<u64>().ok()?, total.parse::<u64>().ok()?)));
        return match parsed {
            Some((start, total)) if start == from && total == size => Ok(()),
            _ => wrong(format!("the range {} came where {from}- was asked for", printable(range))),
        };
    }
    match answer.header("content-length").and_then(|l| l.parse::<u64>().ok()) {
        Some(length) if length != size => wrong(format!("a file of {length} bytes came")),
        _ => Ok(()),
    }
}

/// A failure of this machine in words, with what to do.
pub(super) fn here(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> Failure {
    move |e| {
        let hint = match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room, or set HF_HOME to a larger disk; the same command goes on where it stopped"
            }
            io::ErrorKind::FileTooLarge => "a limit on the size of files was hit (ulimit -f, or the file system's own)",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "HF_HOME says where downloads go; choose a folder that can be written to"
            }
            _ => return Failure::Here(Box::new(Error::io(verb, path, &e))),
        };
        Failure::Here(Box::new(Error::io(verb, path, &e).hint(hint)))
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::rename(from, to).map_err(here("write", to))
}

/// A name of this process for what is to replace `path`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Makes `pointer` lead to `blob`, by a relative link where the system has such.
fn link(blob: &Path, pointer: &Path) -> io::Result<()> {
    let (Some(dir), Some(name)) = (pointer.parent(), blob.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(dir)?;
    let new = beside(pointer);
    let _ = fs::remove_file(&new);
    // snapshots/<commit>/<name> -> ../../blobs/<hash>
    let target: PathBuf = ["..", "..", "blobs"].iter().map(Path::new).chain([Path::new(name)]).collect();
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
