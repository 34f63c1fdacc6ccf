//! A storage in which models of the Hub appear as folders without being downloaded. Their weights are read over the
//! network, only the bytes that are needed; their small files are downloaded into the cache when first opened. Paths
//! are those in the cache, so plans, records and cards are the same as after a download.

use std::{
    collections::HashMap,
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use moerge_checkpoint::{Checkpoint, Facts, FileKind, LocalStorage, ReadAt, ReadStorage};

use super::{
    FileHash, Hub, RemoteFile, RepoKind,
    download::CachedCommit,
    needed::{index_name, small_files, weights},
    pull::{NotesOnly, check_small},
    ranges::RangedFile,
};
use moerge_core::{error::Result, model::locate::HubId, progress::Silent};

/// Mounted models, and what is in another storage.
pub struct HubStorage {
    hub: Arc<Hub>,
    /// Where paths that are not of mounted models are.
    others: Arc<dyn ReadStorage>,
    mounts: RwLock<HashMap<PathBuf, Arc<Mount>>>,
}

struct Mount {
    place: CachedCommit,
    small: Vec<RemoteFile>,
    large: HashMap<String, (RemoteFile, Arc<RangedFile>)>,
}

/// A file of a mounted model.
enum Found {
    Small(Arc<Mount>, RemoteFile),
    Large(RemoteFile, Arc<RangedFile>),
}

impl HubStorage {
    /// A storage without mounted models: that of `others`.
    pub fn new(hub: Arc<Hub>, others: Arc<dyn ReadStorage>) -> Arc<Self> {
        Arc::new(Self { hub, others, mounts: RwLock::default() })
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Mounts a model and returns its folder. This requests the list of its files and the index of its weights.
    ///
    /// # Errors
    /// The model is not on the Hub or incomplete there, or the Hub cannot be reached.
    pub fn mount(&self, id: &HubId, wanted: RepoKind) -> Result<PathBuf> {
        self.mount_unredacted(id, wanted).map_err(|error| self.hub.http.redactor().clean_error(error))
    }

    fn mount_unredacted(&self, id: &HubId, wanted: RepoKind) -> Result<PathBuf> {
        let listing = self.hub.list(id)?;
        check_small(&listing, wanted)?;
        let place = self.hub.place(&listing)?;
        let index = match index_name(&listing).and_then(|name| listing.file(name)) {
            Some(file) if wanted != RepoKind::Adapter => Some(moerge_core::model::files::read_bytes(
                &LocalStorage,
                &self.hub.download(&place, file, &NotesOnly(&Silent))?,
            )?),
            _ => None,
        };
        let large = weights(&listing, wanted, index.as_deref())?.into_iter().map(|file| {
            let ranged = RangedFile::new(self.hub.clone(), place.clone(), file.clone());
            (file.name.clone(), (file.clone(), Arc::new(ranged)))
        });
        let large = large.collect();
        let small = small_files(&listing, wanted).into_iter().cloned().collect();
        let folder = place.snapshot();
        let mount = Arc::new(Mount { place, small, large });
        self.mounts.write().unwrap_or_else(PoisonError::into_inner).insert(folder.clone(), mount);
        Ok(folder)
    }

    /// Sets where the tensors of an opened model are, so that reading one requests exactly its bytes.
    pub fn expect(&self, checkpoint: &Checkpoint) {
        let mut pieces: HashMap<&Path, Vec<(u64, u64)>> = HashMap::new();
        for tensor in checkpoint.tensors() {
            pieces.entry(&tensor.file.path).or_default().push((tensor.offset, tensor.offset + tensor.len));
        }
        for (path, pieces) in pieces {
            if let Some(Found::Large(_, file)) = self.find(path) {
                file.expect(pieces);
            }
        }
    }

    /// Whether a path is a weight file that is read from the Hub.
    pub fn is_remote(&self, path: &Path) -> bool {
        matches!(self.find(path), Some(Found::Large(..)))
    }

    fn mount_of(&self, folder: &Path) -> Option<Arc<Mount>> {
        self.mounts.read().unwrap_or_else(PoisonError::into_inner).get(folder).cloned()
    }

    fn find(&self, path: &Path) -> Option<Found> {
        let mount = self.mount_of(path.parent()?)?;
        let name = path.file_name()?.to_str()?;
        if let Some((file, ranged)) = mount.large.get(name) {
            // A file in the cache is read there.
            return (!mount.place.has(file)).then(|| Found::Large(file.clone(), ranged.clone()));
        }
        let file = mount.small.iter().find(|f| f.name == name)?.clone();
        Some(Found::Small(mount, file))
    }
}

/// The hash stands in for the modification time: files of a commit never change, and other contents have another hash.
fn facts(file: &RemoteFile) -> Facts {
    let bytes: &[u8] = match &file.hash {
        FileHash::Git(bytes) => bytes,
        FileHash::Lfs(bytes) => bytes,
    };
    let modified_ns = bytes.iter().take(8).fold(0, |time: i64, byte| time << 8 | i64::from(*byte));
    Facts { len: file.size, modified_ns, kind: FileKind::File, device: 0 }
}

impl ReadStorage for HubStorage {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>> {
        match self.find(path) {
            Some(Found::Large(_, file)) => Ok(file),
            Some(Found::Small(mount, file)) => {
                let downloaded = self.hub.download(&mount.place, &file, &NotesOnly(&Silent));
                LocalStorage.open(&downloaded.map_err(|e| io::Error::other(e.to_string()))?)
            }
            None => self.others.open(path),
        }
    }

    fn content_hash(&self, path: &Path) -> Option<Vec<u8>> {
        match self.find(path) {
            Some(Found::Large(file, _) | Found::Small(_, file)) => Some(file.hash.to_string().into_bytes()),
            None => self.others.content_hash(path),
        }
    }

    fn facts(&self, path: &Path) -> io::Result<Facts> {
        match self.find(path) {
            Some(Found::Large(file, _) | Found::Small(_, file)) => Ok(facts(&file)),
            None if self.mount_of(path).is_some() => {
                Ok(Facts { len: 0, modified_ns: 0, kind: FileKind::Dir, device: 0 })
            }
            None => self.others.facts(path),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let Some(mount) = self.mount_of(dir) else { return self.others.list(dir) };
        let large = mount.large.keys().map(OsString::from);
        let mut names: Vec<OsString> = mount.small.iter().map(|f| OsString::from(&f.name)).chain(large).collect();
        names.sort_unstable();
        Ok(names)
    }
}

impl fmt::Debug for HubStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mounts = self.mounts.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("HubStorage").field("mounts", &mounts.keys()).finish_non_exhaustive()
    }
}
