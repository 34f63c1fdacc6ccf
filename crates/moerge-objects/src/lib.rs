//! Models in object stores: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! [`ObjectStorage`] is the storage of paths and of URLs such as `s3://bucket/model`, so the rest of the project reads
//! and writes both alike. Objects are read in blocks, ahead of sequential readers, and are written in parts while they are
//! made. Servers and networks fail: every request has a timeout and is repeated a few times, what is read belongs to one
//! version of an object, and what was written is compared with the store's checksum or read back. Access is configured by
//! the environment variables of the stores' own tools, and no credential is ever printed.

mod access;
mod blocks;
mod bucket;
mod checksum;
mod failure;
mod parts;
mod place;
mod profile;
mod reading;
mod retry;
mod runtime;
mod storage;
#[cfg(test)]
mod tests;
mod writing;

pub use runtime::Stop;
pub use storage::ObjectStorage;

/// Bytes of memory that reading and writing objects may take, besides [`PART_MEMORY`] for each thread that writes.
pub const OBJECT_MEMORY: u64 = blocks::MAX_BYTES + parts::MAX_UPLOADING;

/// Bytes of memory for the unfinished parts of objects, for each thread that writes.
pub const PART_MEMORY: u64 = 2 * parts::MIN_PART;
