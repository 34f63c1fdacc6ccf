//! `slerp`: spherical interpolation of two tensors, each as one vector (Shoemake 1985).
//!
//! With `theta` the angle between the vectors, the result is
//! `sin((1 - t) theta) / sin(theta) a + sin(t theta) / sin(theta) b`: the angle is that of the unit vectors, the
//! coefficients apply to the vectors themselves. Nearly parallel vectors (`|cos theta| > 0.9995`) are interpolated
//! linearly, as in mergekit.

use super::{Kernel, Place, check};
use crate::{
    error::Result,
    ops::{Identity, evaluate::Inputs},
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

impl Slerp {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { t } = self;
        id.float(*t);
    }

    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        check::inputs("slerp", check::Count::Exactly(2), inputs)?;
        check::finite("slerp", "t", self.t)
    }

    pub(super) fn kernel(&self, inputs: &Inputs<'_>) -> Result<Coefficients> {
        let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
        inputs.for_each(&mut |inputs| {
            for (a, b) in inputs[0].iter().zip(&inputs[1]) {
                let (a, b) = (f64::from(*a), f64::from(*b));
                aa += a * a;
                bb += b * b;
                ab += a * b;
            }
        })?;
        let norm = |square: f64| if square.sqrt() > ZERO { square.sqrt() } else { 1.0 };
        let cosine = ab / (norm(aa) * norm(bb));
        let t = self.t;
        if cosine.abs() > PARALLEL {
            return Ok(Coefficients(1.0 - t, t));
        }
        let theta = libm::acos(cosine);
        let sin = libm::sin(theta);
        Ok(Coefficients(libm::sin((1.0 - t) * theta) / sin, libm::sin(t * theta) / sin))
    }
}

/// What each of the two inputs is multiplied with.
pub(super) struct Coefficients(f64, f64);

impl Kernel for Coefficients {
    fn merge(&self, inputs: &[Vec<f32>], _: Place, out: &mut [f32]) {
        for ((out, a), b) in out.iter_mut().zip(&inputs[0]).zip(&inputs[1]) {
            *out = (self.0 * f64::from(*a) + self.1 * f64::from(*b)) as f32;
        }
    }
}
