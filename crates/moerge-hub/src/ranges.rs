//! Reads a file on the Hub without downloading it, by HTTP ranges. Consecutive reads share one connection: a range extends
//! to the end of the tensor, and the next read continues in it.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use moerge_checkpoint::ReadAt;
use ureq::BodyReader;

use super::{
    Hub, RemoteFile,
    download::{CachedCommit, check_range},
    http::{Failure, Request, RetryPolicy, network},
};

/// Bytes fetched by the first read at the beginning of a file: most headers are shorter.
const HEAD: u64 = 16 << 10;
/// Maximum number of ranges kept open for the next read.
const MAX_STREAMS: usize = 32;

/// A file of a commit.
pub(super) struct RangedFile {
    hub: Arc<Hub>,
    place: CachedCommit,
    file: RemoteFile,
    head: OnceLock<Vec<u8>>,
    /// The byte ranges of the tensors, in order.
    pieces: RwLock<Vec<(u64, u64)>>,
    streams: Mutex<Vec<Stream>>,
}

struct Stream {
    at: u64,
    end: u64,
    body: BodyReader<'static>,
}

impl RangedFile {
    /// Sends no request before the first read.
    pub fn new(hub: Arc<Hub>, place: CachedCommit, file: RemoteFile) -> Self {
        let (head, pieces, streams) = (OnceLock::new(), RwLock::default(), Mutex::default());
        Self { hub, place, file, head, pieces, streams }
    }

    /// Sets the byte ranges of the tensors, so that a request ends where its tensor ends.
    pub fn expect(&self, mut pieces: Vec<(u64, u64)>) {
        pieces.sort_unstable();
        *self.pieces.write().unwrap_or_else(PoisonError::into_inner) = pieces;
    }

    /// The end of a range that starts at `at` and has at least `len` bytes.
    fn end(&self, at: u64, len: u64) -> u64 {
        let pieces = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        let before = pieces.partition_point(|piece| piece.0 <= at);
        let piece = before.checked_sub(1).and_then(|index| pieces.get(index)).map_or(0, |piece| piece.1);
        piece.max(at.saturating_add(len)).min(self.file.size)
    }

    fn take(&self, at: u64) -> Option<Stream> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let index = streams.iter().position(|stream| stream.at == at)?;
        Some(streams.remove(index))
    }

    fn keep(&self, stream: Stream) {
        if stream.at < stream.end {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            if streams.len() == MAX_STREAMS {
                streams.remove(0);
            }
            streams.push(stream);
        }
    }

    fn open(&self, at: u64, end: u64) -> Result<Stream, Failure> {
        let url = self.hub.address(&self.place.id, &self.place.commit, &self.file.name);
        let mut request = Request::get(&url);
        request.headers.push(("range", format!("bytes={at}-{}", end.saturating_sub(1))));
        let answer = self.hub.http.once(&request)?;
        check_range(&answer, at, self.file.size)?;
        if answer.status != 206 && at > 0 {
            return Err(Failure::Answer("it sends the whole file where a range was asked for".into()));
        }
        Ok(Stream { at, end, body: answer.body.into_reader() })
    }

    fn fill(&self, buffer: &mut [u8], at: u64) -> Result<(), Failure> {
        let mut stream = self.take(at);
        let mut filled = 0;
        let mut retries = RetryPolicy::new();
        while filled < buffer.len() {
            let before = filled;
            match self.read_some(&mut stream, buffer, at, &mut filled) {
                Ok(()) => {}
                Err(failure) => {
                    stream = None;
                    if filled > before {
                        retries = RetryPolicy::new();
                    }
                    self.hub.http.wait(retries.after(failure.after_contact())?)?;
                }
            }
        }
        if let Some(stream) = stream {
            self.keep(stream);
        }
        Ok(())
    }

    fn read_some(
        &self,
        stream: &mut Option<Stream>,
        buffer: &mut [u8],
        at: u64,
        filled: &mut usize,
    ) -> Result<(), Failure> {
        let from = at + *filled as u64;
        let left = buffer.get_mut(*filled..).unwrap_or_default();
        let stream = match stream {
            Some(stream) if stream.at < stream.end => stream,
            stream => stream.insert(self.open(from, self.end(from, left.len() as u64))?),
        };
        let most = usize::try_from(stream.end - stream.at).unwrap_or(usize::MAX).min(left.len());
        match stream.body.read(left.get_mut(..most).unwrap_or_default()) {
            Ok(0) => Err(Failure::Network { what: "the connection was closed early".into(), unreachable: false }),
            Ok(read) => {
                stream.at += read as u64;
                *filled += read;
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(_) if self.hub.http.stopped() => Err(Failure::Stopped),
            Err(e) => Err(network(&ureq::Error::from(e))),
        }
    }

    fn io_error(&self, failure: Failure) -> io::Error {
        let error = self.hub.error(self.hub.subject(&self.place.id, Some(&self.file.name), "download"), failure);
        io::Error::other(error.to_string())
    }
}

impl ReadAt for RangedFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.file.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > HEAD {
            return self.fill(buffer, offset).map_err(|failure| self.io_error(failure));
        }
        let head = match self.head.get() {
            Some(head) => head,
            None => {
                let mut head = vec![0; self.file.size.min(HEAD) as usize];
                self.fill(&mut head, 0).map_err(|failure| self.io_error(failure))?;
                self.head.get_or_init(|| head)
            }
        };
        let part = head.get(offset as usize..end as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.file.size
    }
}
