//! What the methods with task vectors share. A task vector is the difference `d = x - b` of a model from the base
//! (arXiv 2212.04089). Each method thins the differences in its own way ([`Thinning`]); then they are added up, all of
//! them or those whose sign is elected.

mod kept;
mod key;
mod ranked;
mod sum;
mod thin;

pub(super) use kept::Kept;
pub(super) use key::Key;
pub(super) use ranked::Ranked;
pub(super) use sum::{BLOCK, Election};
pub(super) use thin::{Thinning, between_ranks, sorted_vectors};

use super::{Kernel, Place, TaskArithmetic, gram::differences};
use crate::{error::Result, numeric::sums::l1_norm, ops::inputs::Inputs};

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
        mut thinnings: Vec<Thinning>,
        rescale: bool,
        sum: &TaskArithmetic,
        elect_signs: bool,
    ) -> Result<Self> {
        let mut scales = vec![1.0; thinnings.len()];
        if rescale && thinnings.iter().any(Thinning::drops) {
            let keeps = kept_bytes(inputs.elements(), thinnings.len()) > 0;
            let found = l1_ratios(inputs, &thinnings, keeps)?;
            for ((scale, thinning), found) in scales.iter_mut().zip(&mut thinnings).zip(found) {
                *scale = found.ratio;
                if let Some(kept) = found.kept {
                    *thinning = Thinning::Kept(kept);
                }
            }
        }
        Ok(Self { thinnings, scales, sum: sum.clone(), elect_signs })
    }
}

/// L1 norms below this do not scale, as in mergekit.
const ZERO: f64 = 1e-7;

/// The most bytes of a tensor's kept elements that are remembered.
const MAX_KEPT: u64 = 32 << 20;

/// Bytes to remember which elements of `vectors` differences stay; 0 if that is too much, and they are found twice.
pub(super) fn kept_bytes(elements: u64, vectors: usize) -> u64 {
    let bytes = Kept::bytes(elements) * vectors as u64;
    if bytes > MAX_KEPT { 0 } else { bytes }
}

/// What a pass finds of a difference.
struct Found {
    /// Its L1 norm, divided by that of what is left of it.
    ratio: f64,
    /// What is left of it, if finding that is expensive.
    kept: Option<Kept>,
}

/// The sums of a pass.
#[derive(Clone, Default)]
struct Norms {
    before: f64,
    after: f64,
    kept: Kept,
}

/// Thins the differences to find their L1 norms; `keeps` says whether there is room for what is left of them.
fn l1_ratios(inputs: &Inputs<'_>, thinnings: &[Thinning], keeps: bool) -> Result<Vec<Found>> {
    let is_kept = |thinning: &Thinning| keeps && matches!(thinning, Thinning::Ranked(..));
    let norms = inputs.fold(
        || vec![Norms::default(); thinnings.len()],
        |norms, inputs, place| {
            differences(inputs);
            for ((thinning, norms), values) in thinnings.iter().zip(norms).zip(&mut inputs[1..]) {
                norms.before += l1_norm(values);
                thinning.apply(values, place);
                norms.after += l1_norm(values);
                if is_kept(thinning) {
                    norms.kept.extend(values);
                }
            }
        },
        |all, own| {
            for (all, own) in all.iter_mut().zip(own) {
                all.before += own.before;
                all.after += own.after;
                all.kept.append(&own.kept);
            }
        },
    )?;
    let found = |(norms, thinning): (Norms, &Thinning)| {
        let Norms { before, after, kept } = norms;
        let ratio = if before < ZERO || after < ZERO { 1.0 } else { before / after };
        Found { ratio, kept: is_kept(thinning).then_some(kept) }
    };
    Ok(norms.into_iter().zip(thinnings).map(found).collect())
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
