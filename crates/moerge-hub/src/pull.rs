//! Downloads models into the cache: the files that each needs, several at a time, with one byte count for all.

use std::path::PathBuf;

use moerge_checkpoint::{LocalStorage, OutputStorage, workers};

use super::{
    Hub, Listing, RemoteFile, RepoKind,
    download::{CachedCommit, DownloadWatch},
    needed::{index_name, small_files, weights},
};
use moerge_core::{
    error::{Cause, Error, ErrorKind, Result},
    model::locate::HubId,
    progress::{Progress, Stage},
    suggest::printable,
};

/// Files downloaded at a time, because one connection rarely uses the full bandwidth.
const CONNECTIONS: usize = 8;

/// Maximum bytes of a file besides the weights. Larger ones could not be read.
const MAX_SMALL_FILE: u64 = 256 << 20;

/// A model that is in the cache now.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Its folder.
    pub folder: PathBuf,
    /// The files of the repository.
    pub listing: Listing,
    /// Bytes of the files that a model needs.
    pub bytes: u64,
}

/// A file to download.
struct Job<'a> {
    place: &'a CachedCommit,
    file: &'a RemoteFile,
}

impl Hub {
    /// Downloads models into the cache, except for the files that are there.
    ///
    /// # Errors
    /// A model is not on the Hub, is incomplete there, cannot be downloaded or stored, or the user stops the run. The
    /// error comes with the index of the model that it is about.
    pub fn pull(&self, models: &[(HubId, RepoKind)], progress: &dyn Progress) -> Result<Vec<Pulled>, (usize, Error)> {
        // File names and the index are a server's words too.
        self.pull_unredacted(models, progress).map_err(|(number, e)| (number, self.http.redactor().clean_error(e)))
    }

    fn pull_unredacted(
        &self,
        models: &[(HubId, RepoKind)],
        progress: &dyn Progress,
    ) -> Result<Vec<Pulled>, (usize, Error)> {
        let mut found: Vec<(CachedCommit, Listing, RepoKind)> = Vec::new();
        for (number, (id, wanted)) in models.iter().enumerate() {
            let listing = self.list(id).map_err(|e| (number, e))?;
            check_small(&listing, *wanted).map_err(|e| (number, e))?;
            found.push((self.place(&listing).map_err(|e| (number, e))?, listing, *wanted));
        }
        // Small files first: the index among them lists the weight files.
        for (number, (place, listing, wanted)) in found.iter().enumerate() {
            let jobs = small_files(listing, *wanted).into_iter().map(|file| Job { place, file }).collect();
            self.run(jobs, &NotesOnly(progress)).map_err(|e| (number, e))?;
        }
        let mut jobs = Vec::new();
        let mut owners = Vec::new();
        for (number, (place, listing, wanted)) in found.iter().enumerate() {
            let files = self.weights_of(place, listing, *wanted).map_err(|e| (number, e))?;
            owners.extend(files.iter().map(|f| (number, f.name.clone())));
            jobs.extend(files.into_iter().map(|file| Job { place, file }));
        }
        self.fetch_weights(jobs, progress).map_err(|(index, e)| (owners.get(index).map_or(0, |o| o.0), e))?;
        let mut pulled = Vec::new();
        for (number, (place, listing, wanted)) in found.into_iter().enumerate() {
            place.point_here(&listing.id.revision).map_err(|e| (number, e))?;
            let names = owners.iter().filter(|o| o.0 == number).map(|o| o.1.as_str());
            let small = small_files(&listing, wanted).into_iter().map(|f| f.size).fold(0, u64::saturating_add);
            let bytes = names.filter_map(|n| listing.file(n)).map(|f| f.size).fold(small, u64::saturating_add);
            pulled.push(Pulled { folder: place.snapshot(), listing, bytes });
        }
        Ok(pulled)
    }

    /// The place of a commit in the cache.
    pub(super) fn place(&self, listing: &Listing) -> Result<CachedCommit> {
        let folder = self.cache_folder(&listing.id)?;
        Ok(CachedCommit { id: listing.id.clone(), commit: listing.commit.clone(), folder })
    }

    /// The weights of a model whose small files are there.
    pub(super) fn weights_of<'a>(
        &self,
        place: &CachedCommit,
        listing: &'a Listing,
        wanted: RepoKind,
    ) -> Result<Vec<&'a RemoteFile>> {
        let index = match index_name(listing).filter(|_| wanted != RepoKind::Adapter) {
            None => None,
            Some(name) => {
                let path = place.snapshot().join(name);
                Some(moerge_core::model::files::read_bytes(&LocalStorage, &path)?)
            }
        };
        weights(listing, wanted, index.as_deref())
    }

    fn fetch_weights(&self, jobs: Vec<Job>, progress: &dyn Progress) -> Result<(), (usize, Error)> {
        let total = jobs.iter().map(|j| j.file.size).fold(0, u64::saturating_add);
        let missing = jobs.iter().map(|j| j.place.missing(j.file)).fold(0, u64::saturating_add);
        if let Some(job) = jobs.first().filter(|_| missing > 0) {
            check_room(job.place, missing).map_err(|e| (0, e))?;
            progress.start(Stage::Download, total, total - missing);
        }
        let files = jobs.len();
        self.run_all(jobs, &Counted(progress))?;
        if missing > 0 {
            let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
            progress.finish(Stage::Download, &files);
        }
        Ok(())
    }

    fn run(&self, jobs: Vec<Job>, watch: &dyn DownloadWatch) -> Result<()> {
        self.run_all(jobs, watch).map_err(|(_, e)| e)
    }

    /// Downloads all files. An error comes with the index of its file, the lowest if several fail.
    fn run_all(&self, jobs: Vec<Job>, watch: &dyn DownloadWatch) -> Result<(), (usize, Error)> {
        workers::try_map(&jobs, CONNECTIONS, |job| self.download(job.place, job.file, watch)).map(drop)
    }
}

/// Refuses a small file of a size that moerge would not read.
pub(super) fn check_small(listing: &Listing, wanted: RepoKind) -> Result<()> {
    let large = small_files(listing, wanted).into_iter().find(|f| f.size > MAX_SMALL_FILE);
    large.map_or(Ok(()), |file| {
        Err(Error::input(format!("{} of {} is too large for what it is", file.name, listing.id))
            .fact("bytes", file.size.to_string())
            .fact("maximum", MAX_SMALL_FILE.to_string()))
    })
}

fn check_room(place: &CachedCommit, missing: u64) -> Result<()> {
    // The folder may not exist yet; the nearest existing one above it is on the same disk.
    let Some(free) = place.folder.ancestors().find_map(|dir| LocalStorage.free_space(dir).ok()) else { return Ok(()) };
    if free >= missing {
        return Ok(());
    }
    let cache = place.folder.parent().unwrap_or(&place.folder);
    let size = |bytes: u64| format!("{bytes} bytes ({:.1} GB)", bytes as f64 / 1e9);
    Err(Error::new(
        ErrorKind::Io,
        format!("not enough room for downloads in {}", printable(&cache.display().to_string())),
    )
    .fact("needed", size(missing))
    .fact("free", size(free))
    .hint("make room, or set HF_HOME to a larger disk")
    .cause(Cause::CacheFull))
}

/// Reports every byte.
pub(super) struct Counted<'a>(pub &'a dyn Progress);

impl DownloadWatch for Counted<'_> {
    fn arrived(&self, bytes: u64) {
        self.0.advance(Stage::Download, bytes);
    }
    fn note(&self, message: &str) {
        self.0.note(message);
    }
}

/// Reports notes but no bytes: small files take no time.
pub(super) struct NotesOnly<'a>(pub &'a dyn Progress);

impl DownloadWatch for NotesOnly<'_> {
    fn arrived(&self, _: u64) {}
    fn note(&self, message: &str) {
        self.0.note(message);
    }
}
