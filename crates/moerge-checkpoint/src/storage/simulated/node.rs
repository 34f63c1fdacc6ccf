//! A file or a folder of the simulated disk.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::file_change::FileChange;

pub(super) type NodeId = usize;
pub(super) type Names = BTreeMap<OsString, NodeId>;

#[derive(Clone)]
pub(super) struct Node {
    pub(super) content: Content,
    pub(super) modified: i64,
}

#[derive(Clone)]
pub(super) enum Content {
    File { live: Vec<u8>, durable: Vec<u8>, waiting: Vec<FileChange> },
    Dir { live: Names, durable: Names },
}
