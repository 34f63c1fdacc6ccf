//! `passthrough`: one model's tensor, times a factor. Used to stack layers of several models.

use super::{
    Kernel, MergeMethod, check,
    combination::WeightedSum,
    spec::{Base, MethodSpec, of_model},
};
use crate::{
    error::Result,
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `passthrough`. It takes one input.
///
/// A tensor that is not scaled should be its source itself, without a method around it, so that it is copied bit for
/// bit.
#[derive(Debug, Clone, PartialEq)]
pub struct Passthrough {
    /// The factor. Default: 1.
    pub scale: f64,
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "passthrough",
    title: "layers as they are, stacked",
    base: Base::Unused,
    parameters: &[of_model("scale", Some(1.0))],
    make: |v| Passthrough { scale: v.number(0) }.into(),
};

impl MergeMethod for Passthrough {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        check::inputs(SPEC.name, check::Count::Exactly(1), inputs, false)
            .map_err(|error| error.hint("to stack layers of several models, write a slice for each of them"))?;
        check::finite(SPEC.name, "scale", self.scale)
    }

    fn identify(&self, id: &mut Identity) {
        let Self { scale } = self;
        id.float(*scale);
    }

    fn kernel(&self, _: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(WeightedSum(vec![self.scale])))
    }

    fn copies(&self) -> bool {
        self.scale == 1.0
    }
}
