//! The storage of paths on the local file system and of URLs in object stores.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use moerge_checkpoint::{
    Facts, FileKind, LocalStorage, Lock, OutputStorage, ReadAt, ReadStorage, WriteAt, is_object, storage::not_regular,
};
use object_store::{Error, ObjectStoreExt, path::Path as Key};
use xxhash_rust::xxh3::xxh3_64;

use crate::blocks::Blocks;
use crate::bucket::{Bucket, Version};
use crate::failure;
use crate::place::{Place, Scheme};
use crate::reading::OpenObject;
use crate::retry::repeated;
use crate::runtime::{Requests, Stop};
use crate::writing::{NewObject, Uploads, create_new};

/// The local file system and object stores. Nothing is connected to before the first URL is used.
pub struct ObjectStorage {
    requests: Arc<Requests>,
    buckets: Mutex<HashMap<(Scheme, String), Arc<Bucket>>>,
    blocks: Arc<Blocks>,
    uploads: Arc<Uploads>,
}

impl ObjectStorage {
    /// A storage whose waits end once `stop` returns true.
    pub fn new(stop: Stop) -> ObjectStorage {
        let requests = Arc::new(Requests::new(stop));
        ObjectStorage { requests, buckets: Mutex::default(), blocks: Arc::default(), uploads: Arc::default() }
    }

    /// Connects a bucket by hand.
    #[cfg(test)]
    pub(crate) fn add(&self, bucket: Arc<Bucket>) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.insert((bucket.scheme, bucket.name.clone()), bucket);
    }

    fn bucket(&self, place: &Place) -> io::Result<Arc<Bucket>> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let id = (place.scheme, place.bucket.clone());
        if let Some(bucket) = buckets.get(&id) {
            return Ok(bucket.clone());
        }
        let bucket = Bucket::connect(place.scheme, &place.bucket)?;
        buckets.insert(id, bucket.clone());
        Ok(bucket)
    }

    fn find(&self, path: &Path) -> io::Result<(Arc<Bucket>, Place)> {
        let place = Place::parse(path)?;
        Ok((self.bucket(&place)?, place))
    }

    /// Runs a request to a bucket, several times if it fails for the moment.
    fn ask<T, F>(
        &self,
        bucket: &Arc<Bucket>,
        request: impl Fn(Arc<Bucket>) -> F + Send + Sync + 'static,
    ) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let asked = bucket.clone();
        let all = async move { repeated(&asked.answered, || async { Ok(request(asked.clone()).await?) }).await };
        self.requests.wait(all)?.map_err(|error| failure::transfer(bucket, &error))
    }

    fn version(&self, path: &Path) -> io::Result<(Arc<Bucket>, Version)> {
        let (bucket, place) = self.find(path)?;
        if place.key.as_ref().is_empty() {
            return Err(not_regular(FileKind::Dir));
        }
        let version = self.ask(&bucket, move |bucket| {
            let key = place.key.clone();
            async move { bucket.head(key).await }
        })?;
        Ok((bucket, version))
    }

    /// The facts of an object, or of the folder that objects lie in.
    fn object_facts(&self, path: &Path) -> io::Result<Facts> {
        let (bucket, place) = self.find(path)?;
        self.ask(&bucket, move |bucket| look_at(bucket, place.key.clone()))
    }
}

/// What is at a key: an object, or the folder that objects lie in.
async fn look_at(bucket: Arc<Bucket>, key: Key) -> object_store::Result<Facts> {
    let folder = Facts { len: 0, modified_ns: 0, kind: FileKind::Dir, device: 0 };
    // The likely question first: most are answered by one request.
    if is_likely_folder(&key) && (bucket.has_some(key.clone()).await? || key.as_ref().is_empty()) {
        return Ok(folder);
    }
    match bucket.head(key.clone()).await {
        Err(Error::NotFound { .. }) if !is_likely_folder(&key) && bucket.has_some(key).await? => Ok(folder),
        version => version.map(|version| facts(&version)),
    }
}

/// Whether a key has no ending such as `.json`.
fn is_likely_folder(key: &Key) -> bool {
    let ending = key.filename().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending);
    ending.is_none_or(|ending| ending.is_empty() || !ending.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

/// The time of an object has whole seconds. A hash of its tag takes the place of the rest, so that a change within the
/// second is seen.
fn facts(version: &Version) -> Facts {
    let tag = version.e_tag.as_deref().map_or(0, |tag| xxh3_64(tag.as_bytes()) % 1_000_000_000);
    let modified_ns = version.modified.saturating_mul(1_000_000_000).saturating_add(tag as i64);
    Facts { len: version.len, modified_ns, kind: FileKind::File, device: 0 }
}

impl ReadStorage for ObjectStorage {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>> {
        if !is_object(path) {
            return LocalStorage.open(path);
        }
        let (bucket, version) = self.version(path)?;
        Ok(Arc::new(OpenObject::new(bucket, version, self.requests.clone(), self.blocks.clone())))
    }

    fn facts(&self, path: &Path) -> io::Result<Facts> {
        if is_object(path) { self.object_facts(path) } else { LocalStorage.facts(path) }
    }

    /// A folder in an object store without objects is empty.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        if !is_object(dir) {
            return LocalStorage.list(dir);
        }
        let (bucket, place) = self.find(dir)?;
        let names = self.ask(&bucket, move |bucket| {
            let key = place.key.clone();
            async move { bucket.names(key).await }
        })?;
        Ok(names.into_iter().map(OsString::from).collect())
    }
}

impl OutputStorage for ObjectStorage {
    fn is_flat(&self, path: &Path) -> bool {
        is_object(path)
    }

    fn create_new(&self, path: &Path, bytes: &[u8]) -> io::Result<bool> {
        if !is_object(path) {
            return LocalStorage.create_new(path, bytes);
        }
        let (bucket, place) = self.find(path)?;
        let created = self.requests.wait(create_new(bucket.clone(), place.key, bytes.to_vec()))?;
        created.map_err(|error| failure::transfer(&bucket, &error))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn WriteAt>> {
        if !is_object(path) {
            return LocalStorage.create(path);
        }
        let (bucket, place) = self.find(path)?;
        Ok(Arc::new(NewObject::new(bucket, place.key, self.requests.clone(), self.uploads.clone())))
    }

    fn link_facts(&self, path: &Path) -> io::Result<Facts> {
        if is_object(path) { self.object_facts(path) } else { LocalStorage.link_facts(path) }
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        if is_object(path) { Ok(path.to_owned()) } else { LocalStorage.resolve(path) }
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if is_object(dir) { Ok(()) } else { LocalStorage.create_dir_all(dir) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if is_object(from) || is_object(to) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        LocalStorage.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        if !is_object(path) {
            return LocalStorage.remove_file(path);
        }
        let (bucket, place) = self.find(path)?;
        self.ask(&bucket, move |bucket| {
            let key = place.key.clone();
            async move { bucket.store.delete(&key).await }
        })
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        if is_object(dir) { Ok(()) } else { LocalStorage.remove_dir(dir) }
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        if is_object(dir) { Err(io::ErrorKind::Unsupported.into()) } else { LocalStorage.remove_dir_all(dir) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if is_object(dir) { Ok(()) } else { LocalStorage.sync_dir(dir) }
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        if is_object(path) { Ok(u64::MAX) } else { LocalStorage.free_space(path) }
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        if is_object(path) { Err(io::ErrorKind::Unsupported.into()) } else { LocalStorage.lock(path) }
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Lock>> {
        if is_object(path) { Err(io::ErrorKind::Unsupported.into()) } else { LocalStorage.lock_shared(path) }
    }
}

impl fmt::Debug for ObjectStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectStorage")
    }
}
