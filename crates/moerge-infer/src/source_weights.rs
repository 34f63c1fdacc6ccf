//! A source as the decoder reads it, its adapter merged in.

use std::{collections::HashMap, ops::Range};

use moerge_core::{
    error::{Error, Result},
    model::{
        families::{Description, Role, RoleTensor},
        source::Source,
    },
    ops::Evaluator,
};

use crate::decoder::Weights;

/// The weights of a source. Of an adapter the A matrices are held in memory.
pub struct SourceWeights<'a> {
    source: &'a Source,
    weights: HashMap<Role, Evaluator>,
}

impl<'a> SourceWeights<'a> {
    /// Reads what has to be in memory.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn new(source: &'a Source) -> Result<Self> {
        let evaluator = |tensor: &RoleTensor| {
            let weight = source.weight(tensor.role);
            weight.map(|weight| Ok((tensor.role, Evaluator::new(&weight.expr(None), 0)?)))
        };
        let head = source.weight(Role::LmHead).map(|weight| Ok((Role::LmHead, Evaluator::new(&weight.expr(None), 0)?)));
        let weights = source.description.tensors.iter().filter_map(evaluator).chain(head);
        Ok(Self { source, weights: weights.collect::<Result<_>>()? })
    }

    fn weight(&self, role: Role) -> Result<&Evaluator> {
        self.weights.get(&role).ok_or_else(|| Error::input(format!("{} has no {role:?}", self.source.reference)))
    }
}

impl Weights for SourceWeights<'_> {
    fn description(&self) -> &Description {
        &self.source.description
    }

    fn fetch(&self, role: Role, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()> {
        self.weight(role)?.fetch(rows, raw)
    }

    fn widen(&self, role: Role, rows: Range<usize>, raw: &[u8], out: &mut [f32]) -> Result<()> {
        // Nothing of a source is computed by a job.
        self.weight(role)?.compute(rows, raw, &HashMap::new(), out)
    }
}
