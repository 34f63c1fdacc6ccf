//! Sequences that begin alike, as a tree: what several have in common is one node, and is computed once.

use std::ops::Range;

/// A tree of sequences. Every sequence ends at the end of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixTree {
    nodes: Vec<Node>,
    /// The node that each sequence ends with.
    ends: Vec<usize>,
}

/// Tokens that follow those of the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// At least one.
    pub(crate) tokens: Vec<u32>,
    /// A node with a lower index.
    pub(crate) parent: Option<usize>,
    /// The columns of its tokens when the nodes are packed side by side.
    pub(crate) columns: Range<usize>,
}

impl PrefixTree {
    /// The tree of `sequences`, none of which is empty.
    pub fn new(sequences: &[&[u32]]) -> Self {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|index| sequences[*index]);
        let mut tree = Self { nodes: Vec::new(), ends: vec![0; sequences.len()] };
        // Sequences that share their first `depth` tokens, which end with the node `parent`.
        let mut groups = vec![(0..order.len(), 0, None)];
        while let Some((group, depth, parent)) = groups.pop() {
            let (Some(first), Some(last)) = (order[group.clone()].first(), order[group.clone()].last()) else {
                continue;
            };
            // Sorted: what the first and the last share, all share.
            let shared = common_prefix(sequences[*first], sequences[*last]);
            let node = match shared > depth {
                true => Some(tree.push(sequences[*first][depth..shared].to_vec(), parent)),
                false => parent,
            };
            let ended = order[group.clone()].iter().take_while(|index| sequences[**index].len() == shared).count();
            for index in &order[group.start..group.start + ended] {
                tree.ends[*index] = node.unwrap_or(0);
            }
            let mut start = group.start + ended;
            for part in order[start..group.end].chunk_by(|a, b| sequences[*a][shared] == sequences[*b][shared]) {
                groups.push((start..start + part.len(), shared, node));
                start += part.len();
            }
        }
        tree
    }

    fn push(&mut self, tokens: Vec<u32>, parent: Option<usize>) -> usize {
        let start = self.tokens();
        self.nodes.push(Node { columns: start..start + tokens.len(), tokens, parent });
        self.nodes.len() - 1
    }

    /// Tokens of all nodes.
    pub fn tokens(&self) -> usize {
        self.nodes.last().map_or(0, |node| node.columns.end)
    }

    /// The columns of the last `count` tokens of a sequence, in order.
    pub fn last_columns(&self, sequence: usize, count: usize) -> Vec<usize> {
        let mut columns = Vec::with_capacity(count);
        for node in self.ancestry(self.ends[sequence]) {
            columns.extend(node.columns.clone().rev().take(count - columns.len()));
        }
        columns.reverse();
        columns
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The columns of the tokens before those of `node`, in order.
    pub(crate) fn earlier(&self, node: usize) -> Vec<Range<usize>> {
        let mut earlier: Vec<Range<usize>> = self.ancestry(node).skip(1).map(|node| node.columns.clone()).collect();
        earlier.reverse();
        earlier
    }

    /// `node`, its parent, and so on.
    fn ancestry(&self, node: usize) -> impl Iterator<Item = &Node> {
        std::iter::successors(self.nodes.get(node), |node| node.parent.and_then(|parent| self.nodes.get(parent)))
    }
}

/// The number of tokens that both begin with.
pub fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sequences_share_is_there_once() {
        let sequences: [&[u32]; 6] = [&[1, 2, 3, 4], &[1, 2, 5], &[7], &[1, 2], &[1, 2, 3, 4], &[1, 2, 3, 9, 9]];
        let tree = PrefixTree::new(&sequences);
        assert_eq!(tree.tokens(), 8, "{tree:?}");
        let tokens: Vec<u32> = tree.nodes().iter().flat_map(|node| node.tokens.clone()).collect();
        for (index, sequence) in sequences.iter().enumerate() {
            let columns = tree.last_columns(index, sequence.len());
            assert_eq!(columns.iter().map(|column| tokens[*column]).collect::<Vec<_>>(), *sequence);
            assert_eq!(tree.last_columns(index, 1), columns[columns.len() - 1..]);
            let node = tree.ends[index];
            let before: usize = tree.earlier(node).iter().map(Range::len).sum();
            assert_eq!(before + tree.nodes()[node].tokens.len(), sequence.len());
        }
    }

    #[test]
    fn sequences_that_each_extend_the_one_before_make_a_deep_tree() {
        let long: Vec<u32> = (0..5000).collect();
        let sequences: Vec<&[u32]> = (1..=long.len()).map(|end| &long[..end]).collect();
        let tree = PrefixTree::new(&sequences);
        assert_eq!((tree.tokens(), tree.nodes().len()), (5000, 5000));
        assert_eq!(tree.last_columns(4999, 5000), (0..5000).collect::<Vec<_>>());
        assert_eq!(PrefixTree::new(&[]).tokens(), 0);
    }
}
