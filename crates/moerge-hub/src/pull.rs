//! Models into the cache: what each needs, several files at a time, one count of bytes for all.

use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use moerge_checkpoint::{LocalStorage, Storage};

use super::{
    Hub, Listing, RemoteFile, Wanted,
    download::{Place, Watch},
    needed::{index_name, small_files, weights},
};
use moerge_core::{
    error::{Cause, Error, ErrorKind, Result},
    model::locate::HubId,
    progress::{Progress, Stage},
};

/// Files that are downloaded at a time. A connection is rarely faster than a tenth of a good line.
const AT_ONCE: usize = 8;

/// A model that is in the cache now.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Its folder.
    pub folder: PathBuf,
    /// What the repository holds.
    pub listing: Listing,
    /// Bytes of the files that a model needs.
    pub bytes: u64,
}

/// A file that has to be there.
struct Job<'a> {
    place: &'a Place,
    file: &'a RemoteFile,
}

impl Hub {
    /// Brings models into the cache; what is there already is not asked for again. An error comes with the number of the
    /// model that it is about.
    pub fn pull(&self, models: &[(HubId, Wanted)], progress: &dyn Progress) -> Result<Vec<Pulled>, (usize, Error)> {
        let mut found: Vec<(Place, Listing, Wanted)> = Vec::new();
        for (number, (id, wanted)) in models.iter().enumerate() {
            let listing = self.list(id).map_err(|e| (number, e))?;
            found.push((self.place(&listing).map_err(|e| (number, e))?, listing, *wanted));
        }
        // Small files first: the index among them says which weights there are.
        for (number, (place, listing, wanted)) in found.iter().enumerate() {
            let jobs = small_files(listing, *wanted).into_iter().map(|file| Job { place, file }).collect();
            self.run(jobs, &Notes(progress)).map_err(|e| (number, e))?;
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
            let small = small_files(&listing, wanted).into_iter().map(|f| f.size).sum::<u64>();
            let bytes = small + names.filter_map(|n| listing.file(n)).map(|f| f.size).sum::<u64>();
            pulled.push(Pulled { folder: place.snapshot(), listing, bytes });
        }
        Ok(pulled)
    }

    /// Where a commit lies in the cache.
    pub(super) fn place(&self, listing: &Listing) -> Result<Place> {
        let folder = self.cache_folder(&listing.id)?;
        Ok(Place { id: listing.id.clone(), commit: listing.commit.clone(), folder })
    }

    /// The weights of a model whose small files are there.
    pub(super) fn weights_of<'a>(
        &self,
        place: &Place,
        listing: &'a Listing,
        wanted: Wanted,
    ) -> Result<Vec<&'a RemoteFile>> {
        let index = match index_name(listing).filter(|_| wanted != Wanted::Adapter) {
            None => None,
            Some(name) => {
                let path = place.snapshot().join(name);
                Some(moerge_core::model::source::read_bytes(&LocalStorage, &path)?)
            }
        };
        weights(listing, wanted, index.as_deref())
    }

    fn fetch_weights(&self, jobs: Vec<Job>, progress: &dyn Progress) -> Result<(), (usize, Error)> {
        let total: u64 = jobs.iter().map(|j| j.file.size).sum();
        let missing: u64 = jobs.iter().map(|j| j.place.missing(j.file)).sum();
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

    fn run(&self, jobs: Vec<Job>, watch: &dyn Watch) -> Result<()> {
        self.run_all(jobs, watch).map_err(|(_, e)| e)
    }

    /// Runs all jobs; of several errors the first by order is told, with its number.
    fn run_all(&self, jobs: Vec<Job>, watch: &dyn Watch) -> Result<(), (usize, Error)> {
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = jobs.get(index) else { return };
                if let Err(error) = self.download(job.place, job.file, watch) {
                    next.store(jobs.len(), Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if failed.as_ref().is_none_or(|(first, _)| index < *first) {
                        *failed = Some((index, error));
                    }
                    return;
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..AT_ONCE.min(jobs.len()) {
                scope.spawn(work);
            }
            work();
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

fn check_room(place: &Place, missing: u64) -> Result<()> {
    // The folder may not be there yet; the disk is that of the first above it that is.
    let Some(free) = place.folder.ancestors().find_map(|dir| LocalStorage.free_space(dir).ok()) else { return Ok(()) };
    if free >= missing {
        return Ok(());
    }
    let cache = place.folder.parent().unwrap_or(&place.folder);
    let size = |bytes: u64| format!("{bytes} bytes ({:.1} GB)", bytes as f64 / 1e9);
    Err(Error::new(ErrorKind::Io, format!("not enough room for downloads in {}", cache.display()))
        .fact("needed", size(missing))
        .fact("free", size(free))
        .hint("make room, or set HF_HOME to a larger disk")
        .cause(Cause::CacheFull))
}

/// Counts bytes.
struct Counted<'a>(&'a dyn Progress);

impl Watch for Counted<'_> {
    fn arrived(&self, bytes: u64) {
        self.0.advance(Stage::Download, bytes);
    }
    fn note(&self, message: &str) {
        self.0.note(message);
    }
}

/// Counts nothing: small files are no wait.
pub(super) struct Notes<'a>(pub &'a dyn Progress);

impl Watch for Notes<'_> {
    fn arrived(&self, _: u64) {}
    fn note(&self, message: &str) {
        self.0.note(message);
    }
}
