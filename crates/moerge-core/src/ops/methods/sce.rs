//! `sce` (select, calculate, erase): differences weighted by their squares, at the elements where the models disagree
//! most (arXiv 2408.07990).
//!
//! With the differences `d = x - b`: of the elements whose variance over the models is not 0, the fraction
//! `select_topk` with the largest variance is kept, the others become 0. The weight of a model is the mean of its `d^2`
//! over the sum of these means. At each element the sign of `sum d` is elected, 0 counting as positive; the weighted
//! mean of the differences of that sign is added to the base.

use super::{
    Kernel, MergeMethod, Place, check,
    gram::differences,
    select::{Cut, LOW_BITS, Search, bits, find_ends, upper_counts},
    spec::{Base, Domain, MethodSpec, number},
    task_vector::{BLOCK, Election},
};
use crate::{
    error::Result,
    numeric::{simd::vectorised, sums::dot},
    ops::{Identity, inputs::Inputs},
};

/// The parameters of `sce`. The first input is the base.
#[derive(Debug, Clone, PartialEq)]
pub struct Sce {
    /// Fraction of the elements of non-zero variance that are kept. 1 keeps all, those without variance included. With
    /// one model besides the base no element has variance, so anything below 1 gives the base. Default: 1.
    pub select_topk: f64,
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "sce",
    title: "[SCE](https://arxiv.org/abs/2408.07990): the differences of largest variance, weighted by their squares",
    base: Base::Required,
    parameters: &[number("select_topk", Some(1.0)).within(Domain::Fraction)],
    make: |v| Sce { select_topk: v.number(0) }.into(),
};

impl Sce {
    /// The cut after the elements that are kept, in order of variance, and the sums of their squares.
    fn selected(&self, inputs: &Inputs<'_>) -> Result<(Cut, Vec<f64>)> {
        if self.select_topk >= 1.0 || inputs.count() < 2 {
            return Ok((Cut::EVERYTHING, squares(inputs, Cut::EVERYTHING)?));
        }
        let of_variances = |inputs: &mut [Vec<f32>], _| {
            differences(inputs);
            let variances = variances(&inputs[1..]);
            inputs[1].copy_from_slice(&variances);
        };
        let upper = upper_counts(inputs, &[1], &of_variances)?.remove(0);
        let rank = (upper.nonzero as f64 * self.select_topk) as u64;
        let mut searches = [Search::new(1, 0, rank, &upper.buckets)];
        let [search] = &mut searches;
        if !search.is_open() {
            return Ok((search.cut, squares(inputs, search.cut)?));
        }
        let sums = SquaresByVariance::of(inputs, search.upper())?;
        search.narrow(&sums.counts);
        if !search.between_equals {
            return Ok((search.cut, sums.down_to(search.cut)));
        }
        find_ends(inputs, &mut searches, &of_variances)?;
        let [Search { cut, .. }] = searches;
        Ok((cut, squares(inputs, cut)?))
    }
}

impl MergeMethod for Sce {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn check(&self, inputs: usize) -> Result<()> {
        check::inputs(SPEC.name, check::Count::AtLeast(1), inputs, true)?;
        check::fraction(SPEC.name, "select_topk", self.select_topk)
    }

    fn identify(&self, id: &mut Identity) {
        let Self { select_topk } = self;
        id.float(*select_topk);
    }

    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        let (cut, squares) = self.selected(inputs)?;
        let means: Vec<f64> = squares.iter().map(|sum| sum / inputs.elements().max(1) as f64).collect();
        let sum: f64 = means.iter().sum();
        let equal = 1.0 / means.len() as f64;
        let weights = means.iter().map(|mean| if sum < ZERO { equal } else { mean / sum }).collect();
        Ok(Box::new(Fused { cut, weights }))
    }
}

/// The sums of squares of the differences that are kept.
fn squares(inputs: &Inputs<'_>, cut: Cut) -> Result<Vec<f64>> {
    inputs.fold(
        || vec![0.0; inputs.count() - 1],
        |squares: &mut Vec<f64>, inputs, place| {
            select(inputs, place, cut);
            squares.iter_mut().zip(&inputs[1..]).for_each(|(sum, d)| *sum += dot(d, d));
        },
        |all, own| all.iter_mut().zip(own).for_each(|(all, own)| *all += own),
    )
}

/// Sums of squares of the differences by the variance of their elements, around a cut that is known by its upper bits.
/// So the pass that finds the cut gives the weights, too.
struct SquaresByVariance {
    /// Elements whose variance has these lower bits.
    counts: Vec<u64>,
    /// Their squares, `[lower bits, models]`.
    around: Vec<f64>,
    /// Squares of the elements of larger variance, per model.
    above: Vec<f64>,
}

impl SquaresByVariance {
    fn of(inputs: &Inputs<'_>, upper: u32) -> Result<Self> {
        let models = inputs.count() - 1;
        let nothing =
            || Self { counts: vec![0; 1 << LOW_BITS], around: vec![0.0; models << LOW_BITS], above: vec![0.0; models] };
        let add = |all: &mut [f64], own: &[f64]| all.iter_mut().zip(own).for_each(|(all, own)| *all += own);
        inputs.fold(
            nothing,
            |sums, inputs, _| {
                differences(inputs);
                sums.add(&inputs[1..], upper);
            },
            |all, own| {
                all.counts.iter_mut().zip(own.counts).for_each(|(all, own)| *all += own);
                add(&mut all.around, &own.around);
                add(&mut all.above, &own.above);
            },
        )
    }

    fn add(&mut self, vectors: &[Vec<f32>], upper: u32) {
        let mut variances = variances(vectors);
        for (element, variance) in variances.iter_mut().enumerate() {
            let bits = bits(*variance);
            if bits >> LOW_BITS == upper {
                let low = (bits & ((1 << LOW_BITS) - 1)) as usize;
                self.counts[low] += 1;
                let sums = &mut self.around[low * vectors.len()..][..vectors.len()];
                sums.iter_mut().zip(vectors).for_each(|(sum, vector)| *sum += f64::from(vector[element]).powi(2));
            }
        }
        // What follows is a mask.
        let above = (upper + 1) << LOW_BITS;
        variances.iter_mut().for_each(|variance| *variance = f32::from(u8::from(bits(*variance) >= above)));
        let mut kept = vec![0.0; variances.len()];
        for (sum, vector) in self.above.iter_mut().zip(vectors) {
            vectorised(
                #[inline(always)]
                || kept.iter_mut().zip(vector).zip(&variances).for_each(|((kept, d), mask)| *kept = d * mask),
            );
            *sum += dot(&kept, &kept);
        }
    }

    /// The squares of the elements before a cut that does not lie between equal variances.
    fn down_to(&self, cut: Cut) -> Vec<f64> {
        let lowest = (cut.bits & ((1 << LOW_BITS) - 1)) as usize;
        let mut sums = self.above.clone();
        let models = sums.len();
        for around in self.around[lowest * models..].chunks_exact(models) {
            sums.iter_mut().zip(around).for_each(|(sum, own)| *sum += own);
        }
        sums
    }
}

/// Means of squares whose sum is below this give equal weights, as in mergekit.
const ZERO: f64 = 1e-6;

/// Sums of weights count as at least this, as in mergekit.
const NO_WEIGHT: f64 = 1e-6;

/// The elements that are kept, and the weights of the differences.
pub(super) struct Fused {
    cut: Cut,
    weights: Vec<f64>,
}

impl Kernel for Fused {
    fn merge(&self, inputs: &mut [Vec<f32>], place: Place, out: &mut [f32]) {
        select(inputs, place, self.cut);
        let Some((base, vectors)) = inputs.split_first() else { return };
        let votes = vec![1.0; vectors.len()];
        let election = Election { votes: &votes, factors: &self.weights, weights: &self.weights };
        let (mut sums, mut divisors) = ([0.0; BLOCK], [0.0; BLOCK]);
        vectorised(
            #[inline(always)]
            || {
                for (block, out) in out.chunks_mut(BLOCK).enumerate() {
                    let block = block * BLOCK..block * BLOCK + out.len();
                    let (sums, divisors) = (&mut sums[..out.len()], &mut divisors[..out.len()]);
                    election.add_up(vectors, block.clone(), sums, divisors);
                    for (((out, base), sum), divisor) in out.iter_mut().zip(&base[block]).zip(sums).zip(divisors) {
                        *out = (f64::from(*base) + *sum / divisor.max(NO_WEIGHT)) as f32;
                    }
                }
            },
        );
    }
}

/// Turns the inputs after the base into their differences from it, those that are not kept 0.
fn select(inputs: &mut [Vec<f32>], place: Place, cut: Cut) {
    differences(inputs);
    if cut == Cut::EVERYTHING {
        return;
    }
    let variances = variances(&inputs[1..]);
    cut.for_parts(place.first, variances.len(), |part, smallest| {
        for vector in &mut inputs[1..] {
            for (d, variance) in vector[part.clone()].iter_mut().zip(&variances[part.clone()]) {
                // A product rather than a branch: NaN stays NaN, so that it is noticed.
                *d *= if bits(*variance) >= smallest { 1.0 } else { 0.0 };
            }
        }
    });
}

/// The variance over the vectors at each element, in f32: it is of a few numbers, and only its order counts.
fn variances(vectors: &[Vec<f32>]) -> Vec<f32> {
    vectorised(
        #[inline(always)]
        || plain_variances(vectors),
    )
}

#[inline(always)]
fn plain_variances(vectors: &[Vec<f32>]) -> Vec<f32> {
    let count = vectors.len() as f32;
    let mut variances = vec![0.0; vectors.first().map_or(0, Vec::len)];
    let mut means = [0.0; BLOCK];
    for (block, variances) in variances.chunks_mut(BLOCK).enumerate() {
        let block = block * BLOCK..block * BLOCK + variances.len();
        let means = &mut means[..variances.len()];
        means.fill(0.0);
        for vector in vectors {
            means.iter_mut().zip(&vector[block.clone()]).for_each(|(mean, d)| *mean += d);
        }
        means.iter_mut().for_each(|mean| *mean /= count);
        for vector in vectors {
            for ((variance, mean), d) in variances.iter_mut().zip(&*means).zip(&vector[block.clone()]) {
                let off = d - mean;
                *variance += off * off;
            }
        }
        variances.iter_mut().for_each(|variance| *variance /= count);
    }
    variances
}
