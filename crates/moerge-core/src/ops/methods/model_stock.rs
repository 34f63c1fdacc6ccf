//! `model_stock`: between the base and the mean of models that were fine-tuned from it, at the point that the angles
//! between their differences suggest (arXiv 2403.19522).
//!
//! With `c` the mean cosine between the `N` differences from the base, pair by pair, and `t = N c / (1 + (N - 1) c)`,
//! the result is `t mean(x) + (1 - t) b`; the base where the denominator is nearly 0.

use super::{
    Kernel, MergeMethod, Place, check,
    combination::Differences,
    gram::{Gram, differences},
    spec::{Base, MethodSpec, flag},
};
use crate::{
    error::Result,
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `model_stock`. The first input is the base; at least two models follow.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelStock {
    /// Whether each row (the last dimension) has its own `t`, rather than the whole tensor one. Default: false.
    pub filter_wise: bool,
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "model_stock",
    title: "[Model Stock](https://arxiv.org/abs/2403.19522): between the base and the mean, by the models' angles",
    base: Base::Required,
    parameters: &[flag("filter_wise", false)],
    make: |v| ModelStock { filter_wise: v.flag(0) }.into(),
};

impl MergeMethod for ModelStock {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        check::inputs(SPEC.name, check::Count::AtLeast(3), inputs, true)
    }

    fn identify(&self, id: &mut Identity) {
        let Self { filter_wise } = self;
        id.flag(*filter_wise);
    }

    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        if self.filter_wise && !inputs.is_vector() {
            return Ok(Box::new(Filters));
        }
        let gram = Gram::of(inputs, true)?;
        Ok(Box::new(Differences(vec![share(&gram); gram.count()])))
    }
}

/// What each difference counts for: `t / N`.
fn share(gram: &Gram) -> f64 {
    let count = gram.count() as f64;
    let cosine = |i: usize, j: usize| {
        let norms = (gram.norm(i) * gram.norm(j)).max(ZERO);
        (gram.get(i, j) / norms).clamp(-1.0, 1.0)
    };
    let pairs = (0..gram.count()).flat_map(|i| (0..i).map(move |j| (i, j)));
    let mean = pairs.map(|(i, j)| cosine(i, j)).sum::<f64>() / (count * (count - 1.0) / 2.0);
    let denominator = 1.0 + (count - 1.0) * mean;
    if denominator.abs() < ZERO { 0.0 } else { mean / denominator }
}

/// Norm products count as at least this, and a denominator below it gives the base, as in mergekit.
const ZERO: f64 = 1e-6;

/// Every row has its own `t`.
struct Filters;

impl Kernel for Filters {
    fn merge(&self, inputs: &mut [Vec<f32>], place: Place, out: &mut [f32]) {
        differences(inputs);
        let Some((base, others)) = inputs.split_first() else { return };
        let columns = place.columns.max(1);
        for ((row, out), base) in out.chunks_mut(columns).enumerate().zip(base.chunks(columns)) {
            let at = row * columns;
            let rows: Vec<&[f32]> = others.iter().map(|other| &other[at..at + out.len()]).collect();
            let share = share(&Gram::of_rows(&rows));
            for (column, (out, base)) in out.iter_mut().zip(base).enumerate() {
                let sum: f64 = rows.iter().map(|row| f64::from(row[column])).sum();
                *out = (f64::from(*base) + share * sum) as f32;
            }
        }
    }
}
