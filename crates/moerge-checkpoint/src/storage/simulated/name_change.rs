//! Changes of names on the simulated disk that no sync has made durable yet.

use std::ffi::OsString;

use super::node::{Content, Names, Node, NodeId};

/// Picks the live (first) or the durable (second) names of a folder.
type Image = for<'a> fn(&'a mut Names, &'a mut Names) -> &'a mut Names;
/// A name in a folder.
pub(super) type Entry = (NodeId, OsString);

/// `from` loses its node and `to` gets it; creation has no `from`, removal no `to`.
#[derive(Clone)]
pub(super) struct NameChange {
    pub(super) node: NodeId,
    pub(super) from: Option<Entry>,
    pub(super) to: Option<Entry>,
}

impl NameChange {
    pub(super) fn touched(&self) -> impl Iterator<Item = &Entry> {
        self.from.iter().chain(&self.to)
    }

    /// Applies the change to one of the two images of its folders.
    pub(super) fn apply(&self, nodes: &mut [Node], image: Image) {
        let mut names = |dir: NodeId, edit: &dyn Fn(&mut Names)| {
            if let Content::Dir { live, durable } = &mut nodes[dir].content {
                edit(image(live, durable));
            }
        };
        if let Some((dir, name)) = &self.from {
            names(*dir, &|names| {
                if names.get(name) == Some(&self.node) {
                    names.remove(name);
                }
            });
        }
        if let Some((dir, name)) = &self.to {
            names(*dir, &|names| {
                names.insert(name.clone(), self.node);
            });
        }
    }
}
