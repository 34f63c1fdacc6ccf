//! The few file operations that the project needs, as two traits: [`ReadStorage`] for models, and
//! [`OutputStorage`], which also writes. [`LocalStorage`] is the machine's own file system. The
//! simulated disk of the tests loses what was not synced and can fail any operation.
//!
//! What is assumed of a medium, and no more:
//! * bytes of a file are safe from a power cut once `sync` returned;
//! * a new, renamed or removed name is safe once `sync_dir` of its folder returned;
//! * a rename is atomic, also between two folders: after a cut the thing is found at its old place
//!   or at its new one, never at both and never at neither (ext4, xfs, btrfs, zfs, APFS, NTFS);
//! * what was not synced may be there or not, in any combination.
//!
//! Of an object store: an object appears whole, or not at all, and is durable then; what was written is read afterwards.

mod local;
mod problem;
mod read;
pub mod simulated;
mod url;
mod write;

pub use local::LocalStorage;
pub use problem::StorageError;
pub use read::{Facts, FileKind, ReadAt, ReadStorage, not_regular};
pub use url::is_object;
pub use write::{Lock, OutputStorage, WriteAt};

pub(crate) use read::facts_if_any;
pub(crate) use write::link_facts_if_any;
