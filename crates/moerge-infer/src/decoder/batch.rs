//! The sequences of a pass, packed side by side without padding between them: one column per token.
//!
//! Positions count from 0 in each sequence. RoPE types whose frequencies depend on the length (dynamic, longrope) use
//! each sequence's own length; transformers uses the longest position of the padded batch for all of them.

use std::ops::Range;

use moerge_core::{
    error::{Error, Result},
    model::{
        families::{DecoderOptions, LayerSpec},
        rope::Rope,
    },
};

use super::{activations::Activations, weights::bug};
use crate::prefix_tree::PrefixTree;

/// Packed sequences, or the new tokens of sequences whose beginnings are in a KV cache.
pub(super) struct Batch {
    /// The index of each sequence in the KV cache.
    pub(super) slots: Vec<usize>,
    /// All tokens, sequence by sequence.
    pub(super) ids: Vec<u32>,
    /// The columns of each sequence.
    pub(super) ranges: Vec<Range<usize>>,
    /// The columns of the tokens before each sequence that are in this batch, in order.
    pub(super) earlier: Vec<Vec<Range<usize>>>,
    /// The rotary angles of each distinct RoPE.
    pub(super) angles: Vec<Angles>,
    /// For each layer, an index into `angles`.
    pub(super) angles_of_layer: Vec<usize>,
}

/// `cos` and `sin` of the angles of a RoPE, `[head_dim / 2, tokens]`.
pub(super) struct Angles {
    pub(super) cos: Activations,
    pub(super) sin: Activations,
}

impl Batch {
    /// A batch of whole sequences.
    pub(super) fn new(sequences: &[Vec<u32>], options: &DecoderOptions) -> Result<Self> {
        Self::after(sequences, &vec![0; sequences.len()], options)
    }

    /// A batch of the nodes of a tree.
    pub(super) fn of_tree(tree: &PrefixTree, options: &DecoderOptions) -> Result<Self> {
        let sequences: Vec<Vec<u32>> = tree.nodes().iter().map(|node| node.tokens.clone()).collect();
        let earlier: Vec<Vec<Range<usize>>> = (0..sequences.len()).map(|node| tree.earlier(node)).collect();
        let before: Vec<usize> = earlier.iter().map(|ranges| ranges.iter().map(Range::len).sum()).collect();
        Ok(Self { earlier, ..Self::after(&sequences, &before, options)? })
    }

    /// A batch of the new tokens of sequences; `before[i]` tokens of sequence `i` are in the cache.
    pub(super) fn after(sequences: &[Vec<u32>], before: &[usize], options: &DecoderOptions) -> Result<Self> {
        let ids = sequences.concat();
        if let Some(id) = ids.iter().find(|id| **id as usize >= options.vocabulary) {
            return Err(Error::input(format!(
                "the tokenizer gave token {id}, but the model's embeddings have {} rows",
                options.vocabulary
            ))
            .hint("tokenizer.json and config.json must belong to the same model"));
        }
        let ranges = ranges(sequences);
        let (mut ropes, mut angles_of_layer): (Vec<(&Rope, usize)>, _) = (Vec::new(), Vec::new());
        for spec in options.layers.iter().map(LayerSpec::attention) {
            let same = |(rope, head_dim): &(&Rope, usize)| {
                (std::ptr::eq(*rope, &*spec.rope) || **rope == *spec.rope) && *head_dim == spec.head_dim
            };
            let known = ropes.iter().position(same);
            angles_of_layer.push(known.unwrap_or(ropes.len()));
            if known.is_none() {
                ropes.push((&*spec.rope, spec.head_dim));
            }
        }
        let angles = |(rope, head_dim): (&Rope, usize)| Angles::new(rope, head_dim, ids.len(), &ranges, before);
        let angles = ropes.into_iter().map(angles).collect();
        let earlier = vec![Vec::new(); sequences.len()];
        Ok(Self { slots: (0..sequences.len()).collect(), ids, ranges, earlier, angles, angles_of_layer })
    }

    pub(super) fn angles(&self, layer: usize) -> Result<&Angles> {
        let angles = self.angles_of_layer.get(layer).and_then(|index| self.angles.get(*index));
        angles.ok_or_else(|| bug(format!("a model without layer {layer}")))
    }
}

impl Angles {
    /// The angles for packed sequences; `before[i]` tokens of sequence `i` came before.
    fn new(rope: &Rope, head_dim: usize, tokens: usize, ranges: &[Range<usize>], before: &[usize]) -> Self {
        let half = head_dim / 2;
        let (mut cos, mut sin) = (Activations::zeros(half, tokens), Activations::zeros(half, tokens));
        for (range, before) in ranges.iter().zip(before) {
            let (frequencies, scale) = rope.frequencies(head_dim, before + range.len());
            for (position, column) in (*before..).zip(range.clone()) {
                let angles = || frequencies.iter().map(|f| f * position as f64);
                cos.set_token(column, &angles().map(|a| (a.cos() * scale) as f32).collect::<Vec<_>>());
                sin.set_token(column, &angles().map(|a| (a.sin() * scale) as f32).collect::<Vec<_>>());
            }
        }
        Self { cos, sin }
    }
}

/// The columns of each of `sequences` when they are packed.
pub fn ranges(sequences: &[Vec<u32>]) -> Vec<Range<usize>> {
    let mut end = 0;
    let place = |s: &Vec<u32>| {
        end += s.len();
        end - s.len()..end
    };
    sequences.iter().map(place).collect()
}
