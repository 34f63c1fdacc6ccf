//! A bucket, and the requests to it, each as a future that does not borrow.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::TryStreamExt;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, multipart::MultipartStore, path::Path as Key,
};

use crate::access;
use crate::checksum::{confirms, may_be_md5, md5};
use crate::place::Scheme;
use crate::retry::{TransferError, repeated};

/// How often an object is read that arrives damaged each time.
const MAX_DAMAGED: u32 = 6;

/// A bucket that is connected to.
pub(crate) struct Bucket {
    pub scheme: Scheme,
    pub name: String,
    pub store: Arc<dyn ObjectStore>,
    pub parts: Arc<dyn MultipartStore>,
    /// Whether the server ever answered.
    pub answered: AtomicBool,
    /// Whether an ETag that looks like a checksum was found not to be one.
    other_tags: AtomicBool,
}

/// The version of an object that is read.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub key: Key,
    pub len: u64,
    pub e_tag: Option<String>,
    pub modified: i64,
}

impl Version {
    pub fn of(meta: ObjectMeta) -> Version {
        let modified = meta.last_modified.timestamp();
        Version { key: meta.location, len: meta.size, e_tag: meta.e_tag, modified }
    }

    fn is(&self, meta: &ObjectMeta) -> bool {
        self.len == meta.size
            && match (&self.e_tag, &meta.e_tag) {
                (Some(own), Some(found)) => own == found,
                _ => self.modified == meta.last_modified.timestamp(),
            }
    }
}

impl Bucket {
    /// Connects to a bucket.
    ///
    /// # Errors
    /// The environment does not say how.
    pub fn connect(scheme: Scheme, name: &str) -> io::Result<Arc<Bucket>> {
        let (store, parts) = access::connect(scheme, name)?;
        Ok(Bucket::of(scheme, name, store, parts))
    }

    pub fn of(scheme: Scheme, name: &str, store: Arc<dyn ObjectStore>, parts: Arc<dyn MultipartStore>) -> Arc<Bucket> {
        Arc::new(Bucket {
            scheme,
            name: name.to_owned(),
            store,
            parts,
            answered: AtomicBool::new(false),
            other_tags: AtomicBool::new(false),
        })
    }

    /// The current version of an object.
    pub async fn head(&self, key: Key) -> object_store::Result<Version> {
        self.store.head(&key).await.map(Version::of)
    }

    /// Whether there is an object below a prefix.
    pub async fn has_some(&self, prefix: Key) -> object_store::Result<bool> {
        Ok(self.store.list(prefix_of(&prefix)).try_next().await?.is_some())
    }

    /// The names directly below a prefix, sorted.
    pub async fn names(&self, prefix: Key) -> object_store::Result<Vec<String>> {
        let listed = self.store.list_with_delimiter(prefix_of(&prefix)).await?;
        let objects = listed.objects.iter().map(|object| &object.location).filter(|location| **location != prefix);
        let all = objects.chain(&listed.common_prefixes);
        let mut names: Vec<String> = all.filter_map(|key| key.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Bytes of a version of an object. A cut, a failing server and damaged bytes are tried again.
    pub async fn read(self: Arc<Self>, version: Arc<Version>, range: Range<u64>) -> Result<Vec<u8>, TransferError> {
        let whole = range == (0..version.len);
        let sum =
            version.e_tag.as_deref().filter(|tag| whole && may_be_md5(tag) && !self.other_tags.load(Ordering::Relaxed));
        let Some(tag) = sum else {
            return repeated(&self.answered, || self.read_once(&version, range.clone())).await;
        };
        let mut before = None;
        for _ in 0..MAX_DAMAGED {
            let bytes = repeated(&self.answered, || self.read_once(&version, range.clone())).await?;
            let own = md5(&bytes);
            if confirms(Some(tag), &own) {
                return Ok(bytes);
            }
            // Damage does not come twice in the same way: such a tag is no checksum, as of an encrypted object.
            if before == Some(own) {
                self.other_tags.store(true, Ordering::Relaxed);
                return Ok(bytes);
            }
            before = Some(own);
        }
        Err(TransferError::Damaged)
    }

    async fn read_once(&self, version: &Version, range: Range<u64>) -> Result<Vec<u8>, TransferError> {
        let mut options = GetOptions { if_match: version.e_tag.clone(), ..GetOptions::default() };
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if range != (0..version.len) {
            options.range = Some(GetRange::Bounded(range.clone()));
        }
        let answer = self.store.get_opts(&version.key, options).await?;
        if !version.is(&answer.meta) {
            return Err(TransferError::Changed);
        }
        if answer.range != range {
            return Err(TransferError::Damaged);
        }
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(len);
        let mut stream = answer.into_stream();
        while let Some(piece) = stream.try_next().await? {
            if bytes.len() + piece.len() > len {
                return Err(TransferError::Damaged);
            }
            bytes.extend_from_slice(&piece);
        }
        if bytes.len() == len { Ok(bytes) } else { Err(TransferError::Damaged) }
    }
}

fn prefix_of(key: &Key) -> Option<&Key> {
    (!key.as_ref().is_empty()).then_some(key)
}
