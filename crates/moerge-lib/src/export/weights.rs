//! The model of a GGUF plan as [`Weights`] for the decoder, before anything is written.

use std::{collections::HashMap, ops::Range};

use moerge_core::{
    error::{Error, Result},
    model::families::{Description, Role, RoleTensor},
    ops::{ComputedValues, Evaluator},
    plan::gguf::GgufModel,
};
use moerge_infer::decoder::Weights;

/// The weights of a model that becomes a GGUF file, in f32.
pub(super) struct PlannedWeights<'a> {
    description: &'a Description,
    evaluators: HashMap<Role, Evaluator>,
    computed: &'a dyn ComputedValues,
}

impl<'a> PlannedWeights<'a> {
    /// Those of `model`, whose routers are `computed`.
    ///
    /// # Errors
    /// A source cannot be read.
    pub fn new(model: &'a GgufModel, computed: &'a dyn ComputedValues) -> Result<Self> {
        let evaluator =
            |tensor: &RoleTensor| Ok((tensor.role, Evaluator::new(&model.weight(tensor.role)?, model.seed)?));
        let evaluators = model.description.tensors.iter().map(evaluator).collect::<Result<_>>()?;
        Ok(Self { description: &model.description, evaluators, computed })
    }

    fn evaluator(&self, role: Role) -> Result<&Evaluator> {
        self.evaluators.get(&role).ok_or_else(|| Error::input(format!("the model has no weight {role:?}")))
    }
}

impl Weights for PlannedWeights<'_> {
    fn description(&self) -> &Description {
        self.description
    }

    fn fetch(&self, role: Role, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()> {
        self.evaluator(role)?.fetch(rows, raw)
    }

    fn widen(&self, role: Role, rows: Range<usize>, raw: &[u8], out: &mut [f32]) -> Result<()> {
        self.evaluator(role)?.compute(rows, raw, self.computed, out)
    }
}
