//! Blocks of objects in memory, shared by all readers. Threads read some hundred KiB at a time; a request for each would wait
//! for the network each time. A block is requested once, however many threads want it, and the blocks after it are requested
//! ahead of a reader that goes on where it was. When all blocks are in use, a read is a request of exactly its bytes: that is
//! slower, but nothing is read again and again.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 4 << 20;
/// Blocks in memory, of all objects together.
const MAX_BLOCKS: usize = 48;
/// Memory for blocks.
pub(crate) const MAX_BYTES: u64 = BLOCK * MAX_BLOCKS as u64;
/// Blocks that are requested ahead of a reader.
const AHEAD: u64 = 4;
/// Bytes of a read after which others follow.
const LONG: usize = 64 << 10;
/// Of the blocks, those that may be used for reading ahead.
const MAX_AHEAD: usize = MAX_BLOCKS * 3 / 4;
/// When a block that nobody read to its end may be dropped. Not in tests, whatever the machine does meanwhile.
const IDLE: Duration = Duration::from_secs(if cfg!(test) { 600 } else { 1 });

/// An object, by a number of its opening, and a block of it.
type Id = (u64, u64);

/// The blocks.
#[derive(Default)]
pub(crate) struct Blocks {
    state: Mutex<HashMap<Id, Block>>,
    arrived: Condvar,
}

struct Block {
    content: Content,
    used: Instant,
    /// Bytes that were read.
    read: u64,
    /// Where the last read ended.
    next: u64,
}

enum Content {
    Requested,
    Ready(Arc<Vec<u8>>),
    Failed(Arc<io::Error>),
}

/// What reads blocks of an object.
pub(crate) trait Fetch {
    /// The number of this opening of the object.
    fn id(&self) -> u64;
    /// The object's length in bytes.
    fn len(&self) -> u64;
    /// Requests bytes; `done` gets them, on any thread.
    ///
    /// # Errors
    /// The request cannot be made. `done` is not called then.
    fn start(&self, range: Range<u64>, done: Box<dyn FnOnce(io::Result<Vec<u8>>) + Send>) -> io::Result<()>;
    /// Fails if waiting is of no use any more.
    fn check(&self) -> io::Result<()>;
}

impl Blocks {
    /// Copies bytes of the object from its blocks to `buffer`. Returns how many; 0 if no block can be had.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(self: &Arc<Self>, object: &dyn Fetch, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let number = offset / BLOCK;
        let mut state = self.state();
        let mut asked = false;
        loop {
            match state.get_mut(&(object.id(), number)) {
                Some(block) => match &block.content {
                    Content::Ready(bytes) => {
                        let (bytes, at) = (bytes.clone(), (offset - number * BLOCK) as usize);
                        let Some(there) = bytes.get(at..).filter(|there| !there.is_empty()) else { return Ok(0) };
                        let count = there.len().min(buffer.len());
                        // A long read is one of many: what follows is requested while this is used.
                        let goes_on = buffer.len() >= LONG || block.next == offset && offset > number * BLOCK;
                        block.read += count as u64;
                        block.next = offset + count as u64;
                        block.used = Instant::now();
                        if goes_on {
                            self.read_ahead(&mut state, object, number);
                            leave(&mut state, object, offset);
                        }
                        drop(state);
                        if let (Some(to), Some(from)) = (buffer.get_mut(..count), there.get(..count)) {
                            to.copy_from_slice(from);
                        }
                        return Ok(count);
                    }
                    Content::Failed(error) => {
                        let error = copy(error);
                        state.remove(&(object.id(), number));
                        // What failed may have been requested long ago.
                        if asked {
                            return Err(error);
                        }
                    }
                    Content::Requested => {
                        let waited = self.arrived.wait_timeout(state, crate::runtime::LOOK);
                        state = waited.unwrap_or_else(PoisonError::into_inner).0;
                        object.check()?;
                    }
                },
                None => {
                    if !make_room(&mut state, MAX_BLOCKS) {
                        return Ok(0);
                    }
                    asked = true;
                    self.request(&mut state, object, number)?;
                }
            }
        }
    }

    /// Whether the block with this byte is in memory or on its way.
    pub fn has(&self, object: &dyn Fetch, offset: u64) -> bool {
        self.state().contains_key(&(object.id(), offset / BLOCK))
    }

    /// Drops the blocks of an object that nobody reads any more.
    pub fn forget(&self, object: u64) {
        self.state().retain(|(of, _), _| *of != object);
    }

    fn read_ahead(self: &Arc<Self>, state: &mut HashMap<Id, Block>, object: &dyn Fetch, number: u64) {
        let last = object.len().saturating_sub(1) / BLOCK;
        for ahead in number + 1..=(number + AHEAD).min(last) {
            let missing = !state.contains_key(&(object.id(), ahead));
            // Without it, the read itself will say what is wrong.
            if missing && (!make_room(state, MAX_AHEAD) || self.request(state, object, ahead).is_err()) {
                return;
            }
        }
    }

    fn request(self: &Arc<Self>, state: &mut HashMap<Id, Block>, object: &dyn Fetch, number: u64) -> io::Result<()> {
        let (id, own) = ((object.id(), number), self.clone());
        let done = move |result: io::Result<Vec<u8>>| {
            // If it was forgotten meanwhile, nobody wants it.
            if let Some(block) = own.state().get_mut(&id) {
                block.content = match result {
                    Ok(bytes) => Content::Ready(Arc::new(bytes)),
                    Err(error) => Content::Failed(Arc::new(error)),
                };
            }
            own.arrived.notify_all();
        };
        let start = number * BLOCK;
        object.start(start..(start + BLOCK).min(object.len()), Box::new(done))?;
        let block = Block { content: Content::Requested, used: Instant::now(), read: 0, next: start };
        state.insert(id, block);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, HashMap<Id, Block>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks the block before this one as read, if its reader has just come from its end.
fn leave(state: &mut HashMap<Id, Block>, object: &dyn Fetch, offset: u64) {
    let before = (offset / BLOCK).checked_sub(1).filter(|_| offset.is_multiple_of(BLOCK));
    if let Some(block) = before.and_then(|before| state.get_mut(&(object.id(), before)))
        && block.next == offset
    {
        block.read = BLOCK;
    }
}

/// Whether there is room for a block besides at most `max` others; drops one that was read, or that nobody reads.
fn make_room(state: &mut HashMap<Id, Block>, max: usize) -> bool {
    if state.len() < max {
        return true;
    }
    let over = |block: &Block| match &block.content {
        Content::Requested => None,
        Content::Failed(_) => Some((false, block.used)),
        Content::Ready(bytes) if block.read >= bytes.len() as u64 => Some((false, block.used)),
        Content::Ready(_) => (block.used.elapsed() > IDLE).then_some((true, block.used)),
    };
    let oldest = state.iter().filter_map(|(id, block)| Some((over(block)?, *id))).min();
    oldest.is_some_and(|(_, id)| state.remove(&id).is_some()) && state.len() < max
}

/// The error again, for another reader.
fn copy(error: &io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<moerge_checkpoint::StorageError>()) {
        Some(inner) => inner.clone().into_io(error.kind()),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    /// An object whose bytes follow from their place, with the requests counted.
    struct Object {
        id: u64,
        len: u64,
        requests: AtomicU64,
    }

    fn byte(at: u64) -> u8 {
        (at ^ (at >> 8) ^ (at >> 22)) as u8
    }

    impl Fetch for Object {
        fn id(&self) -> u64 {
            self.id
        }
        fn len(&self) -> u64 {
            self.len
        }
        fn start(&self, range: Range<u64>, done: Box<dyn FnOnce(io::Result<Vec<u8>>) + Send>) -> io::Result<()> {
            self.requests.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || done(Ok(range.map(byte).collect())));
            Ok(())
        }
        fn check(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn object(id: u64, len: u64) -> Object {
        Object { id, len, requests: AtomicU64::new(0) }
    }

    #[test]
    fn a_sequential_reader_requests_each_block_once() {
        let (blocks, object) = (Arc::new(Blocks::default()), object(1, 5 * BLOCK + 77));
        let mut buffer = vec![0; 300_000];
        let mut at = 0;
        while at < object.len {
            let count = blocks.read(&object, at, &mut buffer).unwrap();
            assert!(count > 0 && buffer[..count].iter().zip(at..).all(|(found, at)| *found == byte(at)));
            at += count as u64;
        }
        assert_eq!(object.requests.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn many_readers_stay_within_the_memory() {
        let blocks = Arc::new(Blocks::default());
        let objects: Vec<Object> = (0..MAX_BLOCKS as u64 + 9).map(|id| object(id, 2 * BLOCK)).collect();
        let mut buffer = vec![0; 1000];
        let read: Vec<usize> = objects.iter().map(|object| blocks.read(object, 5, &mut buffer).unwrap()).collect();
        // No block is read to its end, so those that came last get none, and nothing is dropped.
        assert_eq!(read.iter().filter(|count| **count > 0).count(), MAX_BLOCKS);
        assert_eq!(blocks.state().len(), MAX_BLOCKS);
        blocks.forget(0);
        assert_eq!(blocks.read(&objects[MAX_BLOCKS], 5, &mut buffer).unwrap(), 1000);
    }
}
