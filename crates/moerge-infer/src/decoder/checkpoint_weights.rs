//! Weights read directly from a checkpoint's files.

use std::{collections::HashMap, ops::Range};

use moerge_checkpoint::{Checkpoint, TensorView};

use super::weights::{Weights, bug};
use moerge_core::{
    error::Result,
    model::families::{Description, Role, RoleTensor},
    numeric::element::widen,
};

/// The weights of a checkpoint, found by the description that its `config.json` gives.
pub struct CheckpointWeights {
    /// The description, adapted to the tensor names and the head that the checkpoint has.
    description: Description,
    views: HashMap<Role, TensorView>,
}

impl CheckpointWeights {
    /// Finds the tensor of every role, in either layout, and checks its shape against the description.
    ///
    /// # Errors
    /// A weight is missing, or its shape is another one.
    pub fn new(checkpoint: &Checkpoint, description: &Description) -> Result<Self> {
        let find = |tensor: &RoleTensor| Ok((tensor.role, tensor.find(checkpoint)?));
        let description = description.stored_in(checkpoint);
        let views = description.tensors.iter().map(find).collect::<Result<_>>()?;
        Ok(Self { description, views })
    }

    fn view(&self, role: Role) -> Result<&TensorView> {
        self.views.get(&role).ok_or_else(|| bug(format!("a model without {role:?} was asked for it")))
    }
}

impl Weights for CheckpointWeights {
    fn description(&self) -> &Description {
        &self.description
    }

    fn fetch(&self, role: Role, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()> {
        let rows = self.view(role)?.rows(rows)?;
        // Reserve exactly: a buffer that doubles would exceed the stated memory.
        raw.clear();
        raw.reserve_exact(rows.len as usize);
        raw.resize(rows.len as usize, 0);
        Ok(rows.read_at(0, raw)?)
    }

    fn widen(&self, role: Role, _: Range<usize>, raw: &[u8], out: &mut [f32]) -> Result<()> {
        widen(self.view(role)?.dtype, raw, out);
        Ok(())
    }
}
