//! An object that is being written. A short one is sent at once; of a longer one, each part is sent when its bytes are known,
//! so neither memory nor disk holds all of it. It appears when it is synced, and is then what was sent: the store's checksum
//! says so, or it is read back. One that is dropped before is abandoned, and its parts are removed from the store.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use moerge_checkpoint::{StorageError, WriteAt};
use object_store::{MultipartId, PutMode, PutOptions, PutPayload, multipart::PartId, path::Path as Key};
use tokio::sync::OnceCell;

use crate::bucket::{Bucket, Version};
use crate::checksum::{Md5Sum, confirms, confirms_parts, may_be_md5, md5};
use crate::failure;
use crate::parts::{MAX_UPLOADS, MIN_PART, Parts, WholePart};
use crate::retry::{TransferError, repeated};
use crate::runtime::{LOOK, Requests};

/// How many uploads of parts run, in all objects together.
#[derive(Default)]
pub(crate) struct Uploads {
    running: Mutex<usize>,
    ended: Condvar,
}

/// An object under construction.
pub(crate) struct NewObject {
    shared: Arc<Shared>,
    requests: Arc<Requests>,
    content: Mutex<Content>,
}

/// What the uploads of parts use.
struct Shared {
    bucket: Arc<Bucket>,
    key: Key,
    uploads: Arc<Uploads>,
    /// The upload that the parts belong to.
    id: OnceCell<MultipartId>,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    sent: Vec<Option<(PartId, Md5Sum)>>,
    running: usize,
    failed: Option<TransferError>,
    complete: bool,
}

#[derive(Clone)]
enum Content {
    Short(Arc<Mutex<Vec<u8>>>),
    Parts(Arc<Parts>),
}

impl NewObject {
    /// Sends nothing yet.
    pub fn new(bucket: Arc<Bucket>, key: Key, requests: Arc<Requests>, uploads: Arc<Uploads>) -> NewObject {
        let (id, state, ended) = (OnceCell::new(), Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { bucket, key, uploads, id, state, ended });
        NewObject { shared, requests, content: Mutex::new(Content::Short(Arc::default())) }
    }

    fn content(&self) -> Content {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts to send parts, once there is room for them.
    fn send(&self, parts: Vec<WholePart>) -> io::Result<()> {
        for (number, bytes) in parts {
            let sum = md5(&bytes);
            self.shared.uploads.enter(&self.requests)?;
            self.shared.state().running += 1;
            let shared = self.shared.clone();
            let upload = async move {
                let result = shared.upload(number, bytes.into(), sum).await;
                shared.uploads.leave();
                let mut state = shared.state();
                match result {
                    Ok(part) => {
                        if let Some(place) = state.sent.get_mut(number) {
                            *place = Some((part, sum));
                        }
                    }
                    Err(error) => state.failed = state.failed.take().or(Some(error)),
                }
                state.running -= 1;
                drop(state);
                shared.ended.notify_all();
            };
            match self.requests.handle() {
                Ok(handle) => drop(handle.spawn(upload)),
                Err(error) => {
                    self.shared.uploads.leave();
                    self.shared.state().running -= 1;
                    return Err(error);
                }
            }
        }
        self.check_failed()
    }

    fn check_failed(&self) -> io::Result<()> {
        match &self.shared.state().failed {
            Some(error) => Err(failure::transfer(&self.shared.bucket, error)),
            None => Ok(()),
        }
    }

    /// Waits until no part is on its way.
    fn wait_for_uploads(&self) -> io::Result<()> {
        let mut state = self.shared.state();
        while state.running > 0 {
            state = self.shared.ended.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            self.requests.check()?;
        }
        drop(state);
        self.check_failed()
    }

    fn put(&self, bytes: Vec<u8>) -> io::Result<()> {
        let (shared, sum, len) = (self.shared.clone(), md5(&bytes), bytes.len() as u64);
        let payload = PutPayload::from(bytes);
        let sent = self.requests.wait(async move {
            let put = || async {
                Ok(shared.bucket.store.put_opts(&shared.key, payload.clone(), PutOptions::default()).await?)
            };
            let e_tag = repeated(&shared.bucket.answered, put).await?.e_tag;
            if confirms(e_tag.as_deref(), &sum) {
                return Ok(true);
            }
            let version = Arc::new(shared.bucket.head(shared.key.clone()).await?);
            if version.len != len {
                return Ok(false);
            }
            Ok(md5(&shared.bucket.clone().read(version, 0..len).await?) == sum)
        })?;
        self.check_confirmed(sent)
    }

    /// Makes the object of its parts.
    fn complete(&self, parts: Arc<Parts>) -> io::Result<()> {
        let missing: Vec<usize> = {
            let state = self.shared.state();
            (0..parts.count()).filter(|number| state.sent.get(*number).is_none_or(Option::is_none)).collect()
        };
        // Nobody wrote to them.
        for number in missing {
            let range = parts.range(number);
            self.send(vec![(number, vec![0; (range.end - range.start) as usize])])?;
        }
        self.wait_for_uploads()?;
        let sent: Vec<(PartId, Md5Sum)> = self.shared.state().sent.iter().flatten().cloned().collect();
        let shared = self.shared.clone();
        let confirmed = self.requests.wait(async move { shared.complete(&parts, sent).await })?;
        self.check_confirmed(confirmed)
    }

    fn check_confirmed(&self, confirmed: Result<bool, TransferError>) -> io::Result<()> {
        if confirmed.map_err(|error| failure::transfer(&self.shared.bucket, &error))? {
            self.shared.state().complete = true;
            return Ok(());
        }
        let message = "the store holds other bytes than were sent".to_owned();
        let hint = "the store or a proxy before it may be failing; run the command again".to_owned();
        Err(StorageError { message, hint }.into_io(io::ErrorKind::InvalidData))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn upload(&self, number: usize, payload: PutPayload, sum: Md5Sum) -> Result<PartId, TransferError> {
        let parts = &self.bucket.parts;
        let begin = || repeated(&self.bucket.answered, || async { Ok(parts.create_multipart(&self.key).await?) });
        let id = self.id.get_or_try_init(begin).await?;
        let put = || async { Ok(parts.put_part(&self.key, id, number, payload.clone()).await?) };
        let part = repeated(&self.bucket.answered, put).await?;
        if confirms(Some(&part.content_id), &sum) || !may_be_md5(&part.content_id) {
            return Ok(part);
        }
        // Damaged on its way, or the tag is no checksum; what was sent is confirmed at the end in any case.
        repeated(&self.bucket.answered, put).await
    }

    /// Whether the object holds what was sent.
    async fn complete(&self, parts: &Parts, sent: Vec<(PartId, Md5Sum)>) -> Result<bool, TransferError> {
        let (ids, sums): (Vec<PartId>, Vec<Md5Sum>) = sent.into_iter().unzip();
        let Some(id) = self.id.get().filter(|_| ids.len() == parts.count()) else { return Err(TransferError::Damaged) };
        let complete = || async { Ok(self.bucket.parts.complete_multipart(&self.key, id, ids.clone()).await?) };
        let e_tag = match repeated(&self.bucket.answered, complete).await {
            Ok(result) => result.e_tag,
            // An answer that was lost: the upload is over, and the object is there. What it holds is seen below.
            Err(error) => match self.bucket.head(self.key.clone()).await {
                Ok(Version { e_tag, len, .. }) if len == parts.object_len() => e_tag,
                _ => return Err(error),
            },
        };
        if confirms_parts(e_tag.as_deref(), &sums) {
            return Ok(true);
        }
        let version = Arc::new(self.bucket.head(self.key.clone()).await?);
        if version.len != parts.object_len() {
            return Ok(false);
        }
        for (number, sum) in sums.iter().enumerate() {
            if md5(&self.bucket.clone().read(version.clone(), parts.range(number)).await?) != *sum {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl WriteAt for NewObject {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.content() {
            Content::Parts(parts) => self.send(parts.add(bytes, offset)),
            Content::Short(content) => {
                let mut content = content.lock().unwrap_or_else(PoisonError::into_inner);
                let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
                let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
                if content.len() < end {
                    content.resize(end, 0);
                }
                if let Some(place) = content.get_mut(start..end) {
                    place.copy_from_slice(bytes);
                }
                Ok(())
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        if len > MIN_PART {
            let parts = Parts::new(len);
            self.shared.state().sent = vec![None; parts.count()];
            *content = Content::Parts(Arc::new(parts));
        } else {
            *content = Content::Short(Arc::new(Mutex::new(vec![0; len as usize])));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        match self.content() {
            Content::Short(content) => {
                self.put(std::mem::take(&mut *content.lock().unwrap_or_else(PoisonError::into_inner)))
            }
            Content::Parts(parts) => {
                self.send(parts.rest())?;
                self.wait_for_uploads()?;
                self.complete(parts)
            }
        }
    }

    fn start_writing(&self, _offset: u64, _len: u64) {}

    fn leave_zero(&self, offset: u64, len: u64) -> io::Result<()> {
        match self.content() {
            Content::Parts(parts) => self.send(parts.leave_zero(offset, len)),
            Content::Short(_) => Ok(()),
        }
    }
}

impl Drop for NewObject {
    fn drop(&mut self) {
        let shared = self.shared.clone();
        if shared.state().complete || shared.state().sent.is_empty() {
            return;
        }
        // Parts that are on their way would come back to life after the abort. Errors do not matter: the run failed.
        let abort = async move {
            for _ in 0..100 {
                if shared.state().running == 0 {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
            if let Some(id) = shared.id.get() {
                let _ = shared.bucket.parts.abort_multipart(&shared.key, id).await;
            }
        };
        self.requests.finish(abort);
    }
}

impl Uploads {
    /// Waits for room for another upload.
    fn enter(&self, requests: &Requests) -> io::Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while *running >= MAX_UPLOADS {
            running = self.ended.wait_timeout(running, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            requests.check()?;
        }
        *running += 1;
        Ok(())
    }

    fn leave(&self) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.ended.notify_one();
    }
}

/// Writes an object of these bytes unless there is one; whether it was written.
pub(crate) async fn create_new(bucket: Arc<Bucket>, key: Key, bytes: Vec<u8>) -> Result<bool, TransferError> {
    let payload = PutPayload::from(bytes);
    let options = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let put = || async { Ok(bucket.store.put_opts(&key, payload.clone(), options()).await?) };
    match repeated(&bucket.answered, put).await {
        Ok(_) => Ok(true),
        Err(TransferError::Store(object_store::Error::AlreadyExists { .. }) | TransferError::Changed) => Ok(false),
        Err(error) => Err(error),
    }
}
