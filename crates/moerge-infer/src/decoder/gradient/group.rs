//! The sequences of a step, some at a time: attention stays within a sequence, so a layer goes up and down
//! group by group.

use std::ops::Range;

use crate::decoder::batch::Batch;
use moerge_core::{error::Result, model::families::DecoderOptions};

/// Tokens of a group, but at least a sequence. A constant: results must not depend on the machine.
pub(super) const GROUP_TOKENS: usize = 256;

/// A sequence to learn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Token by token the one that comes next, where that counts.
    pub targets: Vec<Option<u32>>,
}

/// Some sequences, packed.
pub(super) struct Group {
    pub ids: Vec<u32>,
    /// The rows of each sequence.
    pub ranges: Vec<Range<usize>>,
    /// `cos` and `sin` of the rotary angles of each distinct rope, `[tokens, head_dim / 2]`.
    angles: Vec<[Vec<f32>; 2]>,
    /// Which of them a layer uses.
    angles_of_layer: Vec<usize>,
    /// Rows that count, with the token that came.
    pub targets: Vec<(usize, u32)>,
}

impl Group {
    /// Cuts `texts` into groups, in order.
    pub fn of(texts: &[Text], options: &DecoderOptions) -> Result<Vec<Self>> {
        let mut groups: Vec<Vec<&Text>> = Vec::new();
        let mut size = 0;
        for text in texts.iter().filter(|text| !text.tokens.is_empty()) {
            match groups.last_mut().filter(|_| size + text.tokens.len() <= GROUP_TOKENS) {
                Some(group) => {
                    size += text.tokens.len();
                    group.push(text);
                }
                None => {
                    size = text.tokens.len();
                    groups.push(vec![text]);
                }
            }
        }
        groups.iter().map(|texts| Self::new(texts, options)).collect()
    }

    fn new(texts: &[&Text], options: &DecoderOptions) -> Result<Self> {
        let sequences: Vec<Vec<u32>> = texts.iter().map(|t| t.tokens.clone()).collect();
        let batch = Batch::new(&sequences, options)?;
        let next = texts.iter().flat_map(|text| &text.targets);
        let known = |next: &u32| (*next as usize) < options.vocabulary;
        let targets = (0..).zip(next).filter_map(|(row, next)| Some((row, next.filter(known)?))).collect();
        Ok(Self {
            angles: batch.angles.iter().map(|a| [a.cos.to_tokens(), a.sin.to_tokens()]).collect(),
            angles_of_layer: batch.angles_of_layer,
            ids: batch.ids,
            ranges: batch.ranges,
            targets,
        })
    }

    /// `cos` and `sin` of the rotary angles of a layer, `[tokens, head_dim / 2]`.
    pub fn angles(&self, layer: usize) -> &[Vec<f32>; 2] {
        &self.angles[self.angles_of_layer[layer]]
    }
}
