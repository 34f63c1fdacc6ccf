//! Files and folders of the simulated disk, each as the program sees it and as it would survive.
//!
//! A file's writes wait until the file is synced. Changes of names wait in one list for the whole
//! disk; syncing a folder makes those that touch it durable, and those they build on. A rename is
//! one change that touches two folders: both see it survive, or neither.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::Survives;
use super::file_change::{FileChange, Random};
use super::name_change::{Entry, NameChange};
use super::node::{Content, Names, Node, NodeId};

const ROOT: NodeId = 0;

#[derive(Clone)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Changes of names that no sync has made durable, the oldest first.
    waiting: Vec<NameChange>,
    clock: i64,
}

impl Tree {
    pub(super) fn new() -> Tree {
        let mut tree = Tree { nodes: Vec::new(), waiting: Vec::new(), clock: 0 };
        tree.add(Content::Dir { live: Names::new(), durable: Names::new() });
        tree
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        names_of(path)
            .try_fold(ROOT, |node, name| self.entries(node)?.get(name).copied().ok_or(io::ErrorKind::NotFound.into()))
    }

    pub(super) fn content(&self, node: NodeId) -> io::Result<&Vec<u8>> {
        match &self.nodes[node].content {
            Content::File { live, .. } => Ok(live),
            Content::Dir { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn modified(&self, node: NodeId) -> i64 {
        self.nodes[node].modified
    }

    pub(super) fn names(&self, dir: NodeId) -> io::Result<Vec<OsString>> {
        Ok(self.entries(dir)?.keys().cloned().collect())
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<NodeId> {
        if let Ok(node) = self.find(path) {
            self.set_len(node, 0)?;
            return Ok(node);
        }
        let (live, durable, waiting) = Default::default();
        self.create_node(path, Content::File { live, durable, waiting })
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        match self.find(path) {
            Ok(node) => self.entries(node).map(drop),
            Err(_) => {
                let (live, durable) = Default::default();
                self.create_node(path, Content::Dir { live, durable }).map(drop)
            }
        }
    }

    fn create_node(&mut self, path: &Path, content: Content) -> io::Result<NodeId> {
        let to = self.entry(path)?;
        let node = self.add(content);
        self.change(NameChange { node, from: None, to: Some(to) });
        Ok(node)
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find(path)?;
        if self.entries(node).is_ok_and(|names| !names.is_empty()) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let from = self.entry(path)?;
        self.change(NameChange { node, from: Some(from), to: None });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        if let Ok(there) = self.find(to) {
            match self.entries(there) {
                Ok(names) if !names.is_empty() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                Ok(_) if self.entries(node).is_err() => {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                _ => {}
            }
        }
        let (from, to) = (self.entry(from)?, self.entry(to)?);
        self.change(NameChange { node, from: Some(from), to: Some(to) });
        Ok(())
    }

    pub(super) fn write(&mut self, node: NodeId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change_file(node, FileChange::Write(offset, bytes.to_vec()))
    }

    pub(super) fn set_len(&mut self, node: NodeId, len: u64) -> io::Result<()> {
        self.change_file(node, FileChange::SetLen(len))
    }

    pub(super) fn sync_content(&mut self, node: NodeId) -> io::Result<()> {
        match &mut self.nodes[node].content {
            Content::File { live, durable, waiting } => {
                durable.clone_from(live);
                waiting.clear();
                Ok(())
            }
            Content::Dir { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn sync_names(&mut self, dir: NodeId) -> io::Result<()> {
        self.entries(dir)?;
        self.make_durable(|change| change.touched().any(|(touched, _)| *touched == dir));
        Ok(())
    }

    pub(super) fn put(&mut self, path: &Path, bytes: &[u8]) {
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        for dir in above.into_iter().filter(|dir| dir.file_name().is_some()) {
            let _ = self.create_dir(dir);
        }
        if let Ok(node) = self.create(path) {
            let _ = self.write(node, 0, bytes);
            let _ = self.sync_content(node);
        }
        self.make_durable(|_| true);
    }

    pub(super) fn files(&self, dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        if let Ok(node) = self.find(dir) {
            self.collect(node, Path::new(""), &mut files);
        }
        files
    }

    fn collect(&self, node: NodeId, path: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
        match &self.nodes[node].content {
            Content::File { live, .. } => files.push((path.to_owned(), live.clone())),
            Content::Dir { live, .. } => {
                for (name, child) in live {
                    self.collect(*child, &path.join(name), files);
                }
            }
        }
    }

    pub(super) fn after_crash(&self, survives: Survives) -> Tree {
        let mut tree = self.clone();
        let mut random = match survives {
            Survives::Everything => return tree,
            Survives::Synced => None,
            Survives::Some(seed) => Some(Random(seed)),
        };
        if let Some(random) = &mut random {
            tree.make_durable(|_| random.below(2) == 0);
        }
        tree.waiting.clear();
        for node in &mut tree.nodes {
            match &mut node.content {
                Content::Dir { live, durable } => live.clone_from(durable),
                Content::File { live, durable, waiting } => {
                    for change in waiting.drain(..) {
                        if let Some(random) = &mut random {
                            change.survive(durable, random);
                        }
                    }
                    live.clone_from(durable);
                }
            }
        }
        tree
    }

    /// Makes the chosen changes of names durable, and the earlier ones of the same entries.
    fn make_durable(&mut self, mut chosen: impl FnMut(&NameChange) -> bool) {
        let mut needed: BTreeSet<Entry> = BTreeSet::new();
        let mut flags: Vec<bool> = Vec::new();
        for change in self.waiting.iter().rev() {
            let now = chosen(change) || change.touched().any(|entry| needed.contains(entry));
            if now {
                needed.extend(change.touched().cloned());
            }
            flags.push(now);
        }
        flags.reverse();
        for (change, now) in std::mem::take(&mut self.waiting).into_iter().zip(flags) {
            if now {
                change.apply(&mut self.nodes, |_live, durable| durable);
            } else {
                self.waiting.push(change);
            }
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.nodes, |live, _durable| live);
        self.waiting.push(change);
    }

    fn change_file(&mut self, node: NodeId, change: FileChange) -> io::Result<()> {
        self.clock += 1;
        let clock = self.clock;
        let node = &mut self.nodes[node];
        node.modified = clock;
        match &mut node.content {
            Content::File { live, waiting, .. } => {
                change.apply(live);
                waiting.push(change);
                Ok(())
            }
            Content::Dir { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn add(&mut self, content: Content) -> NodeId {
        self.clock += 1;
        self.nodes.push(Node { content, modified: self.clock });
        self.nodes.len() - 1
    }

    fn entries(&self, node: NodeId) -> io::Result<&Names> {
        match &self.nodes[node].content {
            Content::Dir { live, .. } => Ok(live),
            Content::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn entry(&self, path: &Path) -> io::Result<Entry> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.find(path.parent().unwrap_or(Path::new("")))?;
        self.entries(dir)?;
        Ok((dir, name.to_owned()))
    }
}

fn names_of(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}
