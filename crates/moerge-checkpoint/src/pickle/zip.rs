//! The central directory of a zip, as far as `torch.save` uses the format: no compression, no encryption, 64-bit sizes.

use super::{PickleError, StoredBytes, read_at};
use crate::storage::ReadAt;

/// Lengths of the end record without its comment, and of the longest comment.
const END: u64 = 22;
const LONGEST_COMMENT: u64 = 65_535;
/// The maximum length of the central directory in bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;
/// The value of a 32-bit field whose real value is in the 64-bit extra field.
const IN_EXTRA: u64 = 0xffff_ffff;

/// The entries of a zip.
pub(super) struct Archive {
    entries: Vec<Entry>,
    file_len: u64,
}

/// An entry of the central directory.
pub(super) struct Entry {
    name: String,
    method: u16,
    flags: u16,
    stored: u64,
    len: u64,
    header: u64,
}

fn damaged(what: impl Into<String>) -> PickleError {
    PickleError::Zip(what.into())
}

/// A little-endian number at an offset; `None` past the end.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(width)?)?;
    Some(field.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

impl Archive {
    /// Reads the central directory at the end of the file.
    pub fn read(file: &dyn ReadAt) -> Result<Self, PickleError> {
        let file_len = file.len();
        let tail_len = file_len.min(END + LONGEST_COMMENT);
        let tail_start = file_len - tail_len;
        let mut tail = vec![0; tail_len as usize];
        read_at(file, &mut tail, tail_start)?;
        let is_end = |at: &usize| {
            let comment = number(&tail, at + 20, 2);
            tail.get(*at..at + 4) == Some(b"PK\x05\x06") && comment == Some((tail.len() - at) as u64 - END)
        };
        let last = tail.len().checked_sub(END as usize).ok_or_else(|| damaged("it has no end record"))?;
        let end = (0..=last).rev().find(is_end).ok_or_else(|| damaged("it has no end record; it may be cut"))?;
        let field = |at, width| number(&tail, end + at, width).unwrap_or(0);
        let (mut count, mut size, mut start) = (field(10, 2), field(12, 4), field(16, 4));
        if count == 0xffff || size == IN_EXTRA || start == IN_EXTRA {
            let locator = tail_start + end as u64;
            (count, size, start) = end64(file, locator)?;
        }
        if size > MAX_LIST_BYTES || start.checked_add(size).is_none_or(|end| end > file_len) {
            return Err(damaged(format!("its list of {size} bytes at {start} is not inside the file")));
        }
        let mut list = vec![0; size as usize];
        read_at(file, &mut list, start)?;
        let mut entries = Vec::new();
        let mut rest = list.as_slice();
        for _ in 0..count {
            let (entry, after) = entry(rest).ok_or_else(|| damaged("its list ends early"))??;
            entries.push(entry);
            rest = after;
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(damaged(format!("the entry {} occurs twice", pair[0].name.escape_debug())));
        }
        Ok(Self { entries, file_len })
    }

    /// The entry of this name.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|e| e.name.as_str().cmp(name)).ok()?;
        self.entries.get(at)
    }

    /// The archive's top folder with a `/`: the prefix of the only entry whose last component is `name`.
    pub fn folder_of(&self, name: &str) -> Result<String, PickleError> {
        let folder = |e: &Entry| {
            let folder = e.name.strip_suffix(name)?;
            (folder.matches('/').count() == 1 && folder.ends_with('/')).then(|| folder.to_owned())
        };
        let mut found = self.entries.iter().filter_map(folder);
        match (found.next(), found.next()) {
            (Some(folder), None) => Ok(folder),
            (None, _) => Err(PickleError::NotATorchFile),
            (Some(_), Some(_)) => Err(damaged(format!("it has more than one {name}"))),
        }
    }

    /// The location of an entry's bytes.
    pub fn place(&self, file: &dyn ReadAt, entry: &Entry) -> Result<StoredBytes, PickleError> {
        let name = entry.name.escape_debug();
        if entry.method != 0 || entry.flags & 1 != 0 || entry.stored != entry.len {
            return Err(damaged(format!("its entry {name} is compressed or encrypted; torch.save does neither")));
        }
        let outside = || damaged(format!("its entry {name} is not inside the file"));
        let fixed = 30 + entry.name.len() as u64;
        if entry.header.checked_add(fixed).is_none_or(|end| end > self.file_len) {
            return Err(outside());
        }
        let mut header = vec![0; fixed as usize];
        read_at(file, &mut header, entry.header)?;
        let field = |at, width| number(&header, at, width).unwrap_or(0);
        let same = header.starts_with(b"PK\x03\x04")
            && field(8, 2) == 0
            && field(26, 2) == entry.name.len() as u64
            && header.get(30..) == Some(entry.name.as_bytes());
        if !same {
            return Err(damaged(format!("its entry {name} has another name in its local header")));
        }
        let offset = entry.header + fixed + field(28, 2);
        if offset.checked_add(entry.len).is_none_or(|end| end > self.file_len) {
            return Err(outside());
        }
        Ok(StoredBytes { offset, len: entry.len })
    }

    /// Reads the bytes of an entry, at most `max`.
    pub fn contents(&self, file: &dyn ReadAt, entry: &Entry, max: u64) -> Result<Vec<u8>, PickleError> {
        let place = self.place(file, entry)?;
        if place.len > max {
            let name = entry.name.escape_debug();
            return Err(damaged(format!("its entry {name} has {} bytes, at most {max} are read", place.len)));
        }
        let mut bytes = vec![0; place.len as usize];
        read_at(file, &mut bytes, place.offset)?;
        Ok(bytes)
    }
}

/// Count, size and offset of the central directory, from the 64-bit end record that the locator before `end` points to.
fn end64(file: &dyn ReadAt, end: u64) -> Result<(u64, u64, u64), PickleError> {
    let missing = || damaged("its 64-bit end record is not there");
    let mut locator = [0; 20];
    read_at(file, &mut locator, end.checked_sub(20).ok_or_else(missing)?)?;
    let place = number(&locator, 8, 8).filter(|_| locator.starts_with(b"PK\x06\x07")).ok_or_else(missing)?;
    if place.checked_add(56).is_none_or(|after| after > file.len()) {
        return Err(missing());
    }
    let mut record = [0; 56];
    read_at(file, &mut record, place)?;
    if !record.starts_with(b"PK\x06\x06") {
        return Err(missing());
    }
    let field = |at| number(&record, at, 8).unwrap_or(0);
    Ok((field(32), field(40), field(48)))
}

/// Parses the first entry of the directory; returns it with the rest, or `None` at the end.
fn entry(list: &[u8]) -> Option<Result<(Entry, &[u8]), PickleError>> {
    if !list.starts_with(b"PK\x01\x02") {
        return None;
    }
    let field = |at, width| number(list, at, width);
    let (name_len, extra_len, comment_len) = (field(28, 2)? as usize, field(30, 2)? as usize, field(32, 2)? as usize);
    let name = list.get(46..46 + name_len)?;
    let extra = list.get(46 + name_len..46 + name_len + extra_len)?;
    let rest = list.get(46 + name_len + extra_len + comment_len..)?;
    let mut wide = wide_fields(extra).into_iter();
    let mut widened = |value: u64| if value == IN_EXTRA { wide.next() } else { Some(value) };
    // In the order of the extra field.
    let (len, stored, header) = (widened(field(24, 4)?), widened(field(20, 4)?), widened(field(42, 4)?));
    let (Some(len), Some(stored), Some(header)) = (len, stored, header) else {
        return Some(Err(damaged("an entry's 64-bit size is not there")));
    };
    let Ok(name) = String::from_utf8(name.to_vec()) else {
        return Some(Err(damaged("an entry's name is not UTF-8")));
    };
    let entry = Entry { name, flags: field(8, 2)? as u16, method: field(10, 2)? as u16, stored, len, header };
    Some(Ok((entry, rest)))
}

/// The numbers of extra field 1: sizes and offsets that do not fit into 32 bits.
fn wide_fields(mut extra: &[u8]) -> Vec<u64> {
    while let (Some(id), Some(len)) = (number(extra, 0, 2), number(extra, 2, 2)) {
        let end = 4 + len as usize;
        let Some(body) = extra.get(4..end) else { break };
        if id == 1 {
            return body.chunks_exact(8).filter_map(|field| number(field, 0, 8)).collect();
        }
        extra = extra.get(end..).unwrap_or_default();
    }
    Vec::new()
}
