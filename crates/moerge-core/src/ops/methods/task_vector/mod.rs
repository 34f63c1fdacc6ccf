//! What the methods with task vectors share. A task vector is the difference `d = x - b` of a model from the base
//! (arXiv 2212.04089). Each method thins the differences in its own way ([`Thinning`]); then they are added up, all of
//! them or those whose sign is elected.

mod ranked;
mod sum;
mod thin;

pub(super) use ranked::Ranked;
pub(super) use sum::{BLOCK, Election};
pub(super) use thin::{Key, Thinning, between_ranks, sorted_vectors};

use super::{Kernel, Place, TaskArithmetic, gram::differences};
use crate::{error::Result, numeric::sums::l1_norm, ops::evaluate::Inputs};

/// A base and thinned differences from it.
pub(super) struct TaskVectors {
    /// One per difference.
    thinnings: Vec<Thinning>,
    /// What each difference is scaled by to have its L1 norm again.
    scales: Vec<f64>,
    sum: TaskArithmetic,
    elect_signs: bool,
}

impl TaskVectors {
    /// Prepares the sum of differences that are thinned by `thinnings`. With `rescale`, what is left of each is scaled to
    /// the L1 norm of all of it, unless one of the norms is nearly 0.
    pub fn new(
        inputs: &Inputs<'_>,
        thinnings: Vec<Thinning>,
        rescale: bool,
        sum: &TaskArithmetic,
        elect_signs: bool,
    ) -> Result<Self> {
        let scales = if rescale && thinnings.iter().any(Thinning::drops) {
            l1_ratios(inputs, &thinnings)?
        } else {
            vec![1.0; thinnings.len()]
        };
        Ok(Self { thinnings, scales, sum: sum.clone(), elect_signs })
    }
}

/// L1 norms below this do not scale, as in mergekit.
const ZERO: f64 = 1e-7;

/// The L1 norm of each difference, divided by that of what is left of it.
fn l1_ratios(inputs: &Inputs<'_>, thinnings: &[Thinning]) -> Result<Vec<f64>> {
    let norms = inputs.fold(
        || vec![(0.0, 0.0); thinnings.len()],
        |norms, inputs, place| {
            differences(inputs);
            for ((thinning, norms), values) in thinnings.iter().zip(norms).zip(&mut inputs[1..]) {
                norms.0 += l1_norm(values);
                thinning.apply(values, place);
                norms.1 += l1_norm(values);
            }
        },
        |all, own| all.iter_mut().zip(own).for_each(|(all, own)| *all = (all.0 + own.0, all.1 + own.1)),
    )?;
    let ratio = |(before, after): (f64, f64)| if before < ZERO || after < ZERO { 1.0 } else { before / after };
    Ok(norms.into_iter().map(ratio).collect())
}

impl Kernel for TaskVectors {
    fn merge(&self, inputs: &mut [Vec<f32>], place: Place, out: &mut [f32]) {
        differences(inputs);
        let Some((base, vectors)) = inputs.split_first_mut() else { return };
        for (thinning, vector) in self.thinnings.iter().zip(&mut *vectors) {
            thinning.apply(vector, place);
        }
        sum::add_up(base, vectors, &self.scales, &self.sum, self.elect_signs, out);
    }
}
