//! An open object: one version of it, read in blocks.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use moerge_checkpoint::ReadAt;

use crate::blocks::{BLOCK, Blocks, Fetch};
use crate::bucket::{Bucket, Version};
use crate::failure;
use crate::runtime::Requests;

/// Reads shorter than this are requests of exactly their bytes: headers, samples.
const SMALL: usize = 64 << 10;
/// As many of them in one block, and the next one gets the whole block.
const MAX_SMALL: u8 = 2;

static OPENED: AtomicU64 = AtomicU64::new(0);

/// An object that is open for reading.
pub(crate) struct OpenObject {
    id: u64,
    bucket: Arc<Bucket>,
    version: Arc<Version>,
    requests: Arc<Requests>,
    blocks: Arc<Blocks>,
    /// The number of small reads in each block.
    small: Mutex<HashMap<u64, u8>>,
}

impl OpenObject {
    pub fn new(bucket: Arc<Bucket>, version: Version, requests: Arc<Requests>, blocks: Arc<Blocks>) -> OpenObject {
        let id = OPENED.fetch_add(1, Ordering::Relaxed);
        OpenObject { id, bucket, version: Arc::new(version), requests, blocks, small: Mutex::default() }
    }

    /// Whether a read is to be a request of its own.
    fn is_alone(&self, offset: u64, len: usize) -> bool {
        if len >= SMALL || self.version.len <= BLOCK || self.blocks.has(self, offset) {
            return false;
        }
        let mut small = self.small.lock().unwrap_or_else(PoisonError::into_inner);
        let count = small.entry(offset / BLOCK).or_default();
        *count = count.saturating_add(1);
        *count <= MAX_SMALL
    }

    fn read_exactly(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let range = offset..offset + buffer.len() as u64;
        let read = self.requests.wait(self.bucket.clone().read(self.version.clone(), range))?;
        let bytes = read.map_err(|error| failure::transfer(&self.bucket, &error))?;
        buffer.copy_from_slice(&bytes);
        Ok(())
    }
}

impl ReadAt for OpenObject {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.version.len);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if self.is_alone(offset, buffer.len()) {
            return self.read_exactly(buffer, offset);
        }
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.blocks.read(self, offset + done as u64, rest)? {
                0 => return self.read_exactly(rest, offset + done as u64),
                count => done += count,
            }
        }
        Ok(())
    }

    fn read_each_at(&self, pieces: &mut [(u64, Vec<u8>)]) -> io::Result<()> {
        if self.version.len <= BLOCK {
            return pieces.iter_mut().try_for_each(|(offset, buffer)| self.read_exact_at(buffer, *offset));
        }
        let range = |(offset, buffer): &(u64, Vec<u8>)| *offset..offset.saturating_add(buffer.len() as u64);
        if pieces.iter().any(|piece| range(piece).end > self.version.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let reads = pieces.iter().map(|piece| self.bucket.clone().read(self.version.clone(), range(piece)));
        let read = self.requests.wait(try_join_all(reads.collect::<Vec<_>>()))?;
        let read = read.map_err(|error| failure::transfer(&self.bucket, &error))?;
        for ((_, buffer), bytes) in pieces.iter_mut().zip(read) {
            *buffer = bytes;
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.version.len
    }
}

impl Fetch for OpenObject {
    fn id(&self) -> u64 {
        self.id
    }

    fn len(&self) -> u64 {
        self.version.len
    }

    fn start(&self, range: Range<u64>, done: Box<dyn FnOnce(io::Result<Vec<u8>>) + Send>) -> io::Result<()> {
        let (bucket, version) = (self.bucket.clone(), self.version.clone());
        self.requests.handle()?.spawn(async move {
            let read = bucket.clone().read(version, range).await;
            done(read.map_err(|error| failure::transfer(&bucket, &error)));
        });
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        self.requests.check()
    }
}

impl Drop for OpenObject {
    fn drop(&mut self) {
        self.blocks.forget(self.id);
    }
}
