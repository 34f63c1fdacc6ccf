//! The parts of an object that is made by many threads, in any order. A part is handed over once all its bytes are known:
//! written, or left zero.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a part, if the object is not very large. S3 wants at least 5 MiB, of all parts but the last.
pub(crate) const MIN_PART: u64 = 8 << 20;
/// Parts of an object at most, in S3 and Google Cloud Storage.
const MAX_PARTS: u64 = 10_000;
/// Parts that are on their way to a store at the same time.
pub(crate) const MAX_UPLOADS: usize = 8;
/// Bytes of those parts.
pub(crate) const MAX_UPLOADING: u64 = MIN_PART * MAX_UPLOADS as u64;

/// A part whose bytes are all known.
pub(crate) type WholePart = (usize, Vec<u8>);

/// The parts of an object that are not handed over.
pub(crate) struct Parts {
    len: u64,
    part: u64,
    begun: Mutex<HashMap<usize, Arc<Mutex<Part>>>>,
}

#[derive(Default)]
struct Part {
    bytes: Vec<u8>,
    /// How many of the bytes are known.
    known: u64,
}

impl Parts {
    /// The parts of an object of `len` bytes.
    pub fn new(len: u64) -> Parts {
        let part = len.div_ceil(MAX_PARTS).next_multiple_of(1 << 20).max(MIN_PART);
        Parts { len, part, begun: Mutex::default() }
    }

    /// The number of parts.
    pub fn count(&self) -> usize {
        self.len.div_ceil(self.part) as usize
    }

    /// The length of the object.
    pub fn object_len(&self) -> u64 {
        self.len
    }

    /// The bytes of a part.
    pub fn range(&self, number: usize) -> std::ops::Range<u64> {
        let start = number as u64 * self.part;
        start..(start + self.part).min(self.len)
    }

    /// Adds bytes at `offset`, each of which is added once. Returns the parts that are whole now.
    pub fn add(&self, bytes: &[u8], offset: u64) -> Vec<WholePart> {
        let mut rest = bytes;
        self.each(offset, bytes.len() as u64, |part, at, len| {
            let (now, later) = rest.split_at(len as usize);
            if let Some(place) = part.get_mut(at..at + now.len()) {
                place.copy_from_slice(now);
            }
            rest = later;
        })
    }

    /// Says that `len` bytes at `offset` stay zero. Returns the parts that are whole now.
    pub fn leave_zero(&self, offset: u64, len: u64) -> Vec<WholePart> {
        self.each(offset, len, |_, _, _| {})
    }

    /// The parts that were begun but are not whole; what is missing is zero.
    pub fn rest(&self) -> Vec<WholePart> {
        let begun = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        let bytes = |part: &Mutex<Part>| std::mem::take(&mut part.lock().unwrap_or_else(PoisonError::into_inner).bytes);
        begun.iter().map(|(number, part)| (*number, bytes(part))).collect()
    }

    /// Calls `fill` for each part that has some of these bytes, with the part, the place in it and the length.
    fn each(&self, offset: u64, len: u64, mut fill: impl FnMut(&mut [u8], usize, u64)) -> Vec<WholePart> {
        let mut whole = Vec::new();
        let (mut at, end) = (offset, offset.saturating_add(len).min(self.len));
        while at < end {
            let number = (at / self.part) as usize;
            let range = self.range(number);
            let now = range.end.min(end) - at;
            let part = self.begun.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_default().clone();
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let part_len = range.end - range.start;
            part.bytes.resize(part_len as usize, 0);
            fill(&mut part.bytes, (at - range.start) as usize, now);
            part.known += now;
            if part.known >= part_len {
                whole.push((number, std::mem::take(&mut part.bytes)));
                self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            }
            at += now;
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_with_the_object() {
        let of = |len| {
            let parts = Parts::new(len);
            (parts.part >> 20, parts.count())
        };
        assert_eq!(of(5_000_000_000), (8, 597));
        assert_eq!(of(80 << 30), (9, 9103));
        // The largest object of S3.
        assert_eq!(of(5 << 40), (525, 9987));
        assert_eq!(of(1), (8, 1));
    }

    #[test]
    fn a_part_is_whole_when_all_its_bytes_are_known() {
        let parts = Parts::new(2 * MIN_PART + 10);
        assert!(parts.add(&[1; 100], MIN_PART - 50).is_empty());
        assert_eq!(parts.leave_zero(0, MIN_PART - 50).len(), 1);
        let whole = parts.leave_zero(MIN_PART + 50, MIN_PART - 50 + 10);
        let lens: Vec<_> = whole.iter().map(|(number, bytes)| (*number, bytes.len())).collect();
        assert_eq!(lens, [(1, MIN_PART as usize), (2, 10)]);
        assert_eq!(whole[0].1.iter().map(|byte| usize::from(*byte)).sum::<usize>(), 50);
        assert!(parts.rest().is_empty());
        parts.add(&[7], 3);
        assert_eq!(parts.rest(), [(0, [&[0, 0, 0, 7][..], &vec![0; MIN_PART as usize - 4]].concat())]);
    }
}
