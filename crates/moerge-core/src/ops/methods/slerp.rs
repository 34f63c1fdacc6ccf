//! `slerp`: spherical interpolation of two tensors, each as one vector (Shoemake 1985).
//!
//! With `theta` the angle between the vectors, the result is
//! `sin((1 - t) theta) / sin(theta) a + sin(t theta) / sin(theta) b`: the angle is that of the unit vectors, the
//! coefficients apply to the vectors themselves. Nearly parallel vectors (`|cos theta| > 0.9995`) are interpolated
//! linearly, as in mergekit.

use super::{
    Kernel, MergeMethod, check,
    combination::WeightedSum,
    gram::Gram,
    spec::{Base, Domain, MethodSpec, number},
};
use crate::{
    error::Result,
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `slerp`. It takes exactly two inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Slerp {
    /// 0 gives the first input, which is mergekit's `base_model`, and 1 the second; no default.
    pub t: f64,
}

/// Beyond this cosine the vectors count as parallel.
const PARALLEL: f64 = 0.9995;

/// Norms below this count as 0, as in mergekit.
const ZERO: f64 = 1e-8;

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "slerp",
    title: "spherical interpolation (SLERP)",
    base: Base::Required,
    parameters: &[number("t", None).within(Domain::Interpolation)],
    make: |v| Slerp { t: v.number(0) }.into(),
};

impl MergeMethod for Slerp {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        check::inputs(SPEC.name, check::Count::Exactly(2), inputs, true)?;
        check::finite(SPEC.name, "t", self.t)
    }

    fn identify(&self, id: &mut Identity) {
        let Self { t } = self;
        id.float(*t);
    }

    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        let gram = Gram::of(inputs, false)?;
        let squares = [0, 1].map(|i| if gram.norm(i) > ZERO { gram.get(i, i) } else { 1.0 });
        let cosine = cosine(gram.get(0, 1), squares);
        Ok(Box::new(WeightedSum(factors(self.t, cosine, cosine.abs() > PARALLEL).into())))
    }
}

/// The cosine of two vectors from their product and their squared lengths. Exactly 1 or -1 for multiples by powers of 2.
pub(super) fn cosine(product: f64, squares: [f64; 2]) -> f64 {
    (product / (squares[0] * squares[1]).sqrt()).clamp(-1.0, 1.0)
}

/// The factors of two vectors at `t` between them.
pub(super) fn factors(t: f64, cosine: f64, linear: bool) -> [f64; 2] {
    if linear {
        return [1.0 - t, t];
    }
    let theta = libm::acos(cosine);
    [1.0 - t, t].map(|part| libm::sin(part * theta) / libm::sin(theta))
}
