//! `nuslerp`: spherical interpolation of two tensors by weights, of whole tensors or of rows, or of their differences
//! from a base.
//!
//! `t = w2 / (w1 + w2)`, or 0.5 where the sum is nearly 0. The formula is that of `slerp`, but only vectors that are
//! parallel up to rounding are interpolated linearly: those with `1 - cos^2 <= 1e-16`, the cosine in f32.

use super::{
    Kernel, MergeMethod, Place, check,
    combination::{Differences, WeightedSum},
    gram::{Gram, differences},
    slerp,
    spec::{Base, MethodSpec, WEIGHT, flag},
};
use crate::{
    error::{Cause, Error, Result},
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `nuslerp`. The inputs are the base, if there is one, and two models.
#[derive(Debug, Clone, PartialEq)]
pub struct NuSlerp {
    /// Weights of the two models; no default.
    pub weights: [f64; 2],
    /// Whether each tensor is one vector. Otherwise each of its rows (the last dimension) is one. Default: true.
    pub flatten: bool,
    /// Whether the vectors lie along the first dimension instead of the last; without effect if `flatten` is set.
    /// Default: false. mergekit calls it `nuslerp_row_wise`.
    pub row_wise: bool,
    /// Whether the first input is a base: then differences from it are interpolated, and it is added back.
    pub base: bool,
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "nuslerp",
    title: "spherical interpolation of two models by weights (NuSLERP)",
    base: Base::Optional,
    parameters: &[WEIGHT, flag("nuslerp_flatten", true), flag("nuslerp_row_wise", false)],
    make: |v| {
        let weights = v.of_models(0);
        let weight = |index: usize| weights.get(index).copied().unwrap_or_default();
        NuSlerp { weights: [weight(0), weight(1)], flatten: v.flag(1), row_wise: v.flag(2), base: v.base }.into()
    },
};

impl NuSlerp {
    fn t(&self) -> f64 {
        let sum = self.weights[0] + self.weights[1];
        if sum.abs() < NO_WEIGHT { 0.5 } else { self.weights[1] / sum }
    }
}

impl MergeMethod for NuSlerp {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        check::inputs(SPEC.name, check::Count::Exactly(2 + usize::from(self.base)), inputs, self.base)?;
        self.weights.iter().try_for_each(|weight| check::finite(SPEC.name, "weight", *weight))
    }

    fn identify(&self, id: &mut Identity) {
        let Self { weights, flatten, row_wise, base } = self;
        id.floats(weights).flag(*flatten).flag(*row_wise).flag(*base);
    }

    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        let t = self.t();
        if self.flatten || inputs.is_vector() {
            let factors = factors(t, &Gram::of(inputs, self.base)?).into();
            return Ok(if self.base { Box::new(Differences(factors)) } else { Box::new(WeightedSum(factors)) });
        }
        if self.row_wise {
            Ok(Box::new(Columns::new(t, self.base, inputs)?))
        } else {
            Ok(Box::new(Rows { t, base: self.base }))
        }
    }
}

/// Where the sum of the weights is less, both count the same, as in mergekit.
const NO_WEIGHT: f64 = 1e-6;

/// Norms count as at least this, as in mergekit.
const ZERO: f64 = 1e-7;

/// The factors of two vectors from their scalar products.
fn factors(t: f64, gram: &Gram) -> [f64; 2] {
    factors_of(t, [gram.get(0, 0), gram.get(1, 1), gram.get(0, 1)])
}

/// The factors of `a` and `b` from `[a a, b b, a b]`.
fn factors_of(t: f64, [aa, bb, ab]: [f64; 3]) -> [f64; 2] {
    let cosine = slerp::cosine(ab, [aa, bb].map(|square| square.max(ZERO * ZERO)));
    let rounded = cosine as f32;
    slerp::factors(t, cosine, 1.0 - rounded * rounded <= 1e-16)
}

/// Every row has its own angle.
struct Rows {
    t: f64,
    base: bool,
}

impl Kernel for Rows {
    fn merge(&self, inputs: &mut [Vec<f32>], place: Place, out: &mut [f32]) {
        let columns = place.columns.max(1);
        merge_vectors(self.base, inputs, out, |[a, b], out| {
            let rows = a.chunks(columns).zip(b.chunks(columns));
            for ((a, b), out) in rows.zip(out.chunks_mut(columns)) {
                let [of_a, of_b] = factors(self.t, &Gram::of_rows(&[a, b]));
                let pairs = a.iter().zip(b);
                let sums = pairs.map(|(a, b)| (of_a * f64::from(*a) + of_b * f64::from(*b)) as f32);
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum);
            }
        });
    }
}

/// Every vector along the first dimension has its own angle, known from a pass over the tensor.
struct Columns {
    base: bool,
    /// For each element of a slice of the first dimension.
    factors: Vec<[f64; 2]>,
}

/// Elements of a slice whose products are kept in memory.
const MAX_SLICE: u64 = 1 << 22;

impl Columns {
    fn new(t: f64, base: bool, inputs: &Inputs<'_>) -> Result<Self> {
        let slices = inputs.shape().first().copied().unwrap_or(1).max(1) as u64;
        let slice = inputs.elements() / slices;
        if slice > MAX_SLICE {
            return Err(Error::input("nuslerp along the first dimension takes no tensors with such large slices")
                .cause(Cause::Unsupported)
                .fact("shape", format!("{:?}", inputs.shape()))
                .hint("set nuslerp_row_wise: false to interpolate along the last dimension"));
        }
        let nothing = || vec![[0.0; 3]; slice as usize];
        let look = |products: &mut Vec<[f64; 3]>, inputs: &mut [Vec<f32>], place: Place| {
            if base {
                differences(inputs);
            }
            let [.., a, b] = inputs else { return };
            let mut at = (place.first % slice.max(1)) as usize;
            for (a, b) in a.iter().zip(&*b) {
                let (a, b) = (f64::from(*a), f64::from(*b));
                let [aa, bb, ab] = &mut products[at];
                (*aa, *bb, *ab) = (*aa + a * a, *bb + b * b, *ab + a * b);
                at = if at + 1 == products.len() { 0 } else { at + 1 };
            }
        };
        let join = |all: &mut Vec<[f64; 3]>, own: Vec<[f64; 3]>| {
            all.iter_mut().flatten().zip(own.iter().flatten()).for_each(|(all, own)| *all += own);
        };
        let products = inputs.fold(nothing, look, join)?;
        Ok(Self { base, factors: products.into_iter().map(|products| factors_of(t, products)).collect() })
    }
}

impl Kernel for Columns {
    fn merge(&self, inputs: &mut [Vec<f32>], place: Place, out: &mut [f32]) {
        merge_vectors(self.base, inputs, out, |[a, b], out| {
            let first = (place.first % self.factors.len().max(1) as u64) as usize;
            let factors = self.factors.iter().cycle().skip(first);
            for (((out, a), b), [of_a, of_b]) in out.iter_mut().zip(a).zip(b).zip(factors) {
                *out = (of_a * f64::from(*a) + of_b * f64::from(*b)) as f32;
            }
        });
    }
}

/// Merges two vectors, or the differences of two vectors from a base, to which the result is then added.
fn merge_vectors(base: bool, inputs: &mut [Vec<f32>], out: &mut [f32], merge: impl FnOnce([&[f32]; 2], &mut [f32])) {
    if base {
        differences(inputs);
    }
    let [rest @ .., a, b] = inputs else { return };
    merge([a, b], out);
    for base in rest {
        out.iter_mut().zip(&*base).for_each(|(out, base)| *out += base);
    }
}
