//! Groups of the sequences of a step. Attention stays within a sequence, so a layer runs group by group.

use std::ops::Range;

use crate::decoder::batch::Batch;
use moerge_core::{error::Result, model::families::DecoderOptions};

/// Tokens per group (at least one sequence). A constant, so that results do not depend on the machine.
pub(super) const GROUP_TOKENS: usize = 256;

/// A training sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// For each token the next one, if it counts in the loss.
    pub targets: Vec<Option<u32>>,
}

/// Some sequences, packed.
pub(super) struct Group {
    pub ids: Vec<u32>,
    /// The rows of each sequence.
    pub ranges: Vec<Range<usize>>,
    /// `cos` and `sin` of the rotary angles of each distinct rope, `[tokens, head_dim / 2]`.
    angles: Vec<[Vec<f32>; 2]>,
    /// For each layer, an index into `angles`.
    angles_of_layer: Vec<usize>,
    /// Rows that count in the loss, with the next token.
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
