//! `ram` and `ramplus_tl` (reinforced agent merging): what one model alone changed is added, what several changed is
//! averaged (arXiv 2601.13572).
//!
//! A model changed an element where its difference from the base is more than `epsilon` in magnitude. An element
//! changed by one model gets its whole difference, an element changed by several the mean of theirs. `ramplus_tl` (tensor
//! local) multiplies the differences of a model at the elements that it alone changed by
//! `1 + r clip(shared / unique, 0, alpha)`, from the numbers of elements of the tensor that it changed with others and
//! alone.

use super::{
    Kernel, MergeMethod, Place, check,
    combination::sum_in_f64,
    gram::differences,
    spec::{Base, Domain, MethodSpec, number},
};
use crate::{
    error::Result,
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `ram`. The first input is the base.
#[derive(Debug, Clone, PartialEq)]
pub struct Ram {
    /// Differences up to this magnitude count as none. Default: 1e-5.
    pub epsilon: f64,
}

/// The parameters of `ramplus_tl`. The first input is the base.
#[derive(Debug, Clone, PartialEq)]
pub struct RamPlusTl {
    /// Differences up to this magnitude count as none. Default: 1e-5.
    pub epsilon: f64,
    /// What the ratio of shared to unique elements counts for. Default: 0.1.
    pub r: f64,
    /// Upper bound of that ratio. Default: 0.2.
    pub alpha: f64,
}

pub(super) const RAM: MethodSpec = MethodSpec {
    name: "ram",
    title: "[RAM](https://arxiv.org/abs/2601.13572): differences of one model as they are, shared ones averaged",
    base: Base::Required,
    parameters: &[number("epsilon", Some(1e-5)).within(Domain::NotNegative)],
    make: |v| Ram { epsilon: v.number(0) }.into(),
};

impl MergeMethod for Ram {
    fn name(&self) -> &'static str {
        RAM.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        check::inputs(RAM.name, check::Count::AtLeast(1), inputs, true)?;
        check::not_negative(RAM.name, "epsilon", self.epsilon)
    }

    fn identify(&self, id: &mut Identity) {
        let Self { epsilon } = self;
        id.float(*epsilon);
    }

    fn kernel(&self, _: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(Reinforced { epsilon: self.epsilon as f32, unique: None }))
    }
}

pub(super) const RAMPLUS_TL: MethodSpec = MethodSpec {
    name: "ramplus_tl",
    title: "[RAM+](https://arxiv.org/abs/2601.13572): RAM with larger differences of one model",
    base: Base::Required,
    parameters: &[
        number("epsilon", Some(1e-5)).within(Domain::NotNegative),
        number("r", Some(0.1)),
        number("alpha", Some(0.2)).within(Domain::NotNegative),
    ],
    make: |v| RamPlusTl { epsilon: v.number(0), r: v.number(1), alpha: v.number(2) }.into(),
};

impl RamPlusTl {
    /// What a model's differences are multiplied by where it alone changed the base.
    fn unique_factor(&self, shared: u64, unique: u64) -> f64 {
        if unique == 0 {
            return 1.0;
        }
        // mergekit clamps `unique` from below by epsilon, which is far below 1.
        1.0 + self.r * (shared as f64 / (unique as f64).max(self.epsilon)).clamp(0.0, self.alpha)
    }
}

impl MergeMethod for RamPlusTl {
    fn name(&self) -> &'static str {
        RAMPLUS_TL.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        check::inputs(RAMPLUS_TL.name, check::Count::AtLeast(1), inputs, true)?;
        check::not_negative(RAMPLUS_TL.name, "epsilon", self.epsilon)?;
        check::finite(RAMPLUS_TL.name, "r", self.r)?;
        check::not_negative(RAMPLUS_TL.name, "alpha", self.alpha)
    }

    fn identify(&self, id: &mut Identity) {
        let Self { epsilon, r, alpha } = self;
        id.float(*epsilon).float(*r).float(*alpha);
    }

    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        let epsilon = self.epsilon as f32;
        let counts = inputs.fold(
            || vec![(0, 0); inputs.count() - 1],
            |counts: &mut Vec<(u64, u64)>, inputs, _| {
                differences(inputs);
                let changes = changes(&inputs[1..], epsilon);
                for (d, (shared, unique)) in inputs[1..].iter().zip(counts) {
                    for (d, changes) in d.iter().zip(&changes) {
                        let changed = d.abs() > epsilon;
                        *shared += u64::from(changed && *changes > 1);
                        *unique += u64::from(changed && *changes == 1);
                    }
                }
            },
            |all, own| all.iter_mut().zip(own).for_each(|(all, own)| *all = (all.0 + own.0, all.1 + own.1)),
        )?;
        let unique = counts.into_iter().map(|(shared, unique)| self.unique_factor(shared, unique)).collect();
        Ok(Box::new(Reinforced { epsilon, unique: Some(unique) }))
    }
}

/// How many of the differences are not none at each element.
fn changes(vectors: &[Vec<f32>], epsilon: f32) -> Vec<u32> {
    let mut changes = vec![0; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        changes.iter_mut().zip(vector).for_each(|(changes, d)| *changes += u32::from(d.abs() > epsilon));
    }
    changes
}

/// What counts as a change, and the factors of the differences where they are alone.
pub(super) struct Reinforced {
    epsilon: f32,
    unique: Option<Vec<f64>>,
}

impl Kernel for Reinforced {
    fn merge(&self, inputs: &mut [Vec<f32>], _: Place, out: &mut [f32]) {
        differences(inputs);
        let Some((base, vectors)) = inputs.split_first() else { return };
        let changes = changes(vectors, self.epsilon);
        let shares: Vec<f64> = (0..=vectors.len()).map(|count| 1.0 / count.max(1) as f64).collect();
        sum_in_f64(out, |at, sums| {
            sums.iter_mut().zip(&base[at..]).for_each(|(sum, base)| *sum = f64::from(*base));
            for (number, vector) in vectors.iter().enumerate() {
                let alone = self.unique.as_ref().map_or(1.0, |unique| unique[number]);
                for ((sum, d), changes) in sums.iter_mut().zip(&vector[at..]).zip(&changes[at..]) {
                    let factor = if *changes > 1 { shares[*changes as usize] } else { alone };
                    // A product rather than a branch: NaN stays NaN, so that it is noticed.
                    *sum += f64::from(*d) * if d.abs() > self.epsilon { factor } else { 0.0 };
                }
            }
        });
    }
}
