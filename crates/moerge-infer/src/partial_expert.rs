//! The model that an expert is by itself where it is limited to some layers.

use std::ops::Range;

use crate::SourceWeights;
use crate::decoder::Weights;
use moerge_core::model::source::Source;
use moerge_core::{
    error::Result,
    model::families::{Description, LayerRole, Role, RoleTensor},
};

/// An expert's own weights, but the base's FFN in the layers that it is not in: what the MoE would be with this expert
/// wherever it is, and the base elsewhere.
pub struct PartialExpert<'a> {
    own: SourceWeights<'a>,
    base: SourceWeights<'a>,
    absent: Vec<usize>,
    description: Description,
}

impl<'a> PartialExpert<'a> {
    /// The model of `own` with the FFN of `base` in the layers `absent`.
    ///
    /// # Errors
    /// A weight cannot be read.
    pub fn new(own: &'a Source, base: &'a Source, absent: Vec<usize>) -> Result<Self> {
        let (own, base) = (SourceWeights::new(own)?, SourceWeights::new(base)?);
        let mut description = own.description().clone();
        for tensor in description.tensors.iter_mut().filter(|tensor| is_absent(&absent, tensor.role)) {
            // Its FFN may be wider or narrower than the base's.
            if let Some(RoleTensor { shape, .. }) = base.description().get(tensor.role) {
                tensor.shape.clone_from(shape);
            }
        }
        Ok(Self { own, base, absent, description })
    }

    fn of(&self, role: Role) -> &SourceWeights<'a> {
        if is_absent(&self.absent, role) { &self.base } else { &self.own }
    }
}

fn is_absent(absent: &[usize], role: Role) -> bool {
    matches!(role, Role::Layer(layer, LayerRole::Ffn(_)) if absent.contains(&layer))
}

impl Weights for PartialExpert<'_> {
    fn description(&self) -> &Description {
        &self.description
    }

    fn fetch(&self, role: Role, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()> {
        self.of(role).fetch(role, rows, raw)
    }

    fn widen(&self, role: Role, rows: Range<usize>, raw: &[u8], out: &mut [f32]) -> Result<()> {
        self.of(role).widen(role, rows, raw, out)
    }
}
