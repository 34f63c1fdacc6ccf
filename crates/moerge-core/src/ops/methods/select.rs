//! Exact selection of the largest values of a whole tensor, in memory that does not depend on its size.
//!
//! Values are ordered by magnitude, the largest first, and equal ones by their place in the tensor, the first of them
//! first. The bits of a magnitude, read as a whole number, are in the order of the magnitudes, so two passes find a cut:
//! the first counts values by their upper 16 bits, the second counts those around the cut by the lower 15. A third pass
//! finds the place of the cut among equal values, if it lies between some.

use std::ops::Range;

use crate::{
    error::Result,
    numeric::simd::vectorised,
    ops::inputs::{Inputs, Place},
};

/// Lower bits of a magnitude, counted by the second pass.
pub(super) const LOW_BITS: u32 = 15;

/// Where the k largest values of a tensor end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Magnitude of the last value before the cut, as bits; larger ones are before it, too.
    pub bits: u32,
    /// Of equal values, those at elements up to here, this one excluded, are before the cut.
    end: u64,
}

/// Values that are looked through at once.
const BLOCK: usize = 32;
/// The number of upper bits' values.
const UPPER: usize = 1 << (31 - LOW_BITS);

/// The magnitude of a value as bits.
#[inline(always)]
pub(super) fn bits(value: f32) -> u32 {
    value.to_bits() & (u32::MAX >> 1)
}

impl Cut {
    /// Before all values.
    pub const NOTHING: Self = Self { bits: u32::MAX, end: 0 };
    /// After all values.
    pub const EVERYTHING: Self = Self { bits: 0, end: u64::MAX };

    /// Calls `look` with parts of some elements, of which the first is element `first` of the tensor: the part's range, and
    /// the smallest bits of magnitudes in it that are before the cut.
    pub fn for_parts(self, first: u64, length: usize, mut look: impl FnMut(Range<usize>, u32)) {
        let split = usize::try_from(self.end.saturating_sub(first)).map_or(length, |split| split.min(length));
        if split > 0 {
            look(0..split, self.bits);
        }
        if split < length {
            look(split..length, self.bits.saturating_add(1));
        }
    }
}

/// Finds cuts of the tensors that `prepare` leaves in `tensors`, which are numbers of inputs. `ranks` says after how many
/// values the cuts of a tensor are, from its number among `tensors` and how many of its values are not 0.
pub(super) fn cuts(
    inputs: &Inputs<'_>,
    tensors: &[usize],
    prepare: impl Fn(&mut [Vec<f32>], Place) + Sync,
    ranks: impl Fn(usize, u64) -> Vec<u64>,
) -> Result<Vec<Vec<Cut>>> {
    let mut searches = search(inputs, tensors, &prepare, ranks)?;
    find_ends(inputs, &mut searches, &prepare)?;
    let of = |tensor| searches.iter().filter(|s| s.tensor == tensor).map(|s| s.cut).collect();
    Ok((0..tensors.len()).map(of).collect())
}

/// The magnitudes at some `ranks` of the tensor that `prepare` leaves in input `tensor`, counted from 1 for the largest.
/// `upper` has its counts.
pub(super) fn magnitudes(
    inputs: &Inputs<'_>,
    tensor: usize,
    upper: &Upper,
    prepare: impl Fn(&mut [Vec<f32>], Place) + Sync,
    ranks: &[u64],
) -> Result<Vec<f32>> {
    let searches = ranks.iter().map(|rank| Search::new(tensor, 0, *rank, &upper.buckets)).collect();
    let searches = narrowed(inputs, searches, &prepare)?;
    Ok(searches.iter().map(|search| f32::from_bits(search.cut.bits)).collect())
}

/// The first two passes.
fn search(
    inputs: &Inputs<'_>,
    tensors: &[usize],
    prepare: &(impl Fn(&mut [Vec<f32>], Place) + Sync),
    ranks: impl Fn(usize, u64) -> Vec<u64>,
) -> Result<Vec<Search>> {
    let upper = upper_counts(inputs, tensors, prepare)?;
    let mut searches = Vec::new();
    for (tensor, counts) in upper.iter().enumerate() {
        for rank in ranks(tensor, counts.nonzero) {
            searches.push(Search::new(tensors[tensor], tensor, rank, &counts.buckets));
        }
    }
    drop(upper);
    narrowed(inputs, searches, prepare)
}

/// The second pass.
fn narrowed(
    inputs: &Inputs<'_>,
    mut searches: Vec<Search>,
    prepare: &(impl Fn(&mut [Vec<f32>], Place) + Sync),
) -> Result<Vec<Search>> {
    let lower = lower_counts(inputs, &searches, prepare)?;
    searches.iter_mut().zip(&lower).for_each(|(search, counts)| search.narrow(counts));
    Ok(searches)
}

/// How many values have which upper bits.
pub(super) struct Upper {
    pub buckets: Vec<u64>,
    pub nonzero: u64,
}

impl Upper {
    /// Of no values.
    pub fn new() -> Self {
        Self { buckets: vec![0; UPPER], nonzero: 0 }
    }

    /// Counts `values`, too.
    pub fn count(&mut self, values: &[f32]) {
        let buckets = &mut self.buckets;
        values.iter().for_each(|value| buckets[(bits(*value) >> LOW_BITS) as usize % UPPER] += 1);
        self.nonzero += vectorised(
            #[inline(always)]
            || values.iter().map(|value| u32::from(*value != 0.0)).sum::<u32>(),
        ) as u64;
    }

    /// Adds the counts of other values.
    pub fn join(&mut self, other: Self) {
        add(&mut self.buckets, &other.buckets);
        self.nonzero += other.nonzero;
    }
}

/// A cut that is being found.
pub(super) struct Search {
    input: usize,
    tensor: usize,
    /// Values before the cut that have its bits as far as they are known.
    left: u64,
    /// Whether the cut lies between equal values.
    pub between_equals: bool,
    pub cut: Cut,
}

impl Search {
    /// After `rank` values of tensor number `tensor`, which is in input `input`, by the counts of the first pass.
    pub fn new(input: usize, tensor: usize, rank: u64, buckets: &[u64]) -> Self {
        let mut search = Self { input, tensor, left: rank, between_equals: false, cut: Cut::NOTHING };
        if rank == 0 {
            return search;
        }
        search.cut = Cut::EVERYTHING;
        if let Some((bucket, left)) = bucket_of(rank, buckets) {
            search.cut.bits = (bucket as u32) << LOW_BITS;
            search.left = left;
        } else {
            search.left = 0;
        }
        search
    }

    /// Whether a bucket of the first pass has to be looked at closely.
    pub fn is_open(&self) -> bool {
        self.left > 0
    }

    /// The magnitudes before the cut as far as they are known: those with larger upper bits, and some with equal ones.
    pub fn upper(&self) -> u32 {
        self.cut.bits >> LOW_BITS
    }

    /// Uses the counts of the second pass: of values with these upper bits, how many have which lower ones.
    pub fn narrow(&mut self, buckets: &[u64]) {
        if let Some((bucket, left)) = bucket_of(self.left, buckets) {
            self.cut.bits |= bucket as u32;
            self.left = left;
            self.between_equals = left < buckets[bucket];
        }
    }
}

/// The bucket that the value of `rank` (from 1) is in, from the largest, and its rank in that bucket.
fn bucket_of(rank: u64, buckets: &[u64]) -> Option<(usize, u64)> {
    let mut left = rank;
    for (bucket, count) in buckets.iter().enumerate().rev() {
        if left > 0 && left <= *count {
            return Some((bucket, left));
        }
        left = left.saturating_sub(*count);
    }
    None
}

/// The first pass.
pub(super) fn upper_counts(
    inputs: &Inputs<'_>,
    tensors: &[usize],
    prepare: &(impl Fn(&mut [Vec<f32>], Place) + Sync),
) -> Result<Vec<Upper>> {
    inputs.fold(
        || tensors.iter().map(|_| Upper::new()).collect(),
        |counts: &mut Vec<Upper>, inputs, place| {
            prepare(inputs, place);
            for (counts, input) in counts.iter_mut().zip(tensors) {
                let Some(values) = inputs.get(*input) else { continue };
                counts.count(values);
            }
        },
        |all, own| all.iter_mut().zip(own).for_each(|(all, own)| all.join(own)),
    )
}

fn lower_counts(
    inputs: &Inputs<'_>,
    searches: &[Search],
    prepare: &(impl Fn(&mut [Vec<f32>], Place) + Sync),
) -> Result<Vec<Vec<u64>>> {
    if !searches.iter().any(Search::is_open) {
        return Ok(vec![Vec::new(); searches.len()]);
    }
    inputs.fold(
        || searches.iter().map(|_| vec![0; 1 << LOW_BITS]).collect(),
        |counts: &mut Vec<Vec<u64>>, inputs, place| {
            prepare(inputs, place);
            for (counts, search) in counts.iter_mut().zip(searches).filter(|(_, search)| search.is_open()) {
                let Some(values) = inputs.get(search.input) else { continue };
                let upper = search.upper();
                // Few values are around the cut: whole blocks without one are passed over.
                for values in values.chunks(BLOCK) {
                    let found = vectorised(
                        #[inline(always)]
                        || values.iter().map(|value| u32::from(bits(*value) >> LOW_BITS == upper)).sum::<u32>(),
                    );
                    if found == 0 {
                        continue;
                    }
                    for bits in values.iter().map(|value| bits(*value)).filter(|bits| bits >> LOW_BITS == upper) {
                        counts[(bits & ((1 << LOW_BITS) - 1)) as usize] += 1;
                    }
                }
            }
        },
        |all, own| all.iter_mut().zip(own).for_each(|(all, own)| add(all, &own)),
    )
}

/// Finds the ends of cuts that lie between equal values.
pub(super) fn find_ends(
    inputs: &Inputs<'_>,
    searches: &mut [Search],
    prepare: &(impl Fn(&mut [Vec<f32>], Place) + Sync),
) -> Result<()> {
    let open: Vec<(usize, u32)> = searches.iter().filter(|s| s.between_equals).map(|s| (s.input, s.cut.bits)).collect();
    if open.is_empty() {
        return Ok(());
    }
    let equal = |values: &[f32], wanted: u32| values.iter().filter(|value| bits(**value) == wanted).count() as u64;
    // One number per segment, each of which is millions of elements.
    let counts: Vec<Vec<u64>> = inputs.fold(
        Vec::new,
        |counts: &mut Vec<Vec<u64>>, inputs, place| {
            prepare(inputs, place);
            let [own] = counts.as_mut_slice() else {
                counts.push(open.iter().map(|(input, wanted)| equal(&inputs[*input], *wanted)).collect());
                return;
            };
            own.iter_mut().zip(&open).for_each(|(own, (input, wanted))| *own += equal(&inputs[*input], *wanted));
        },
        |all, own| all.extend(own),
    )?;
    for (number, search) in searches.iter_mut().filter(|s| s.between_equals).enumerate() {
        let mut left = search.left;
        let is_in = |own: &Vec<u64>| {
            let here = left <= own[number];
            if !here {
                left -= own[number];
            }
            here
        };
        let Some(segment) = counts.iter().position(is_in) else { continue };
        inputs.for_each_in(segment, &mut |inputs, place| {
            prepare(inputs, place);
            for (value, element) in inputs[search.input].iter().zip(place.first..) {
                if left > 0 && bits(*value) == search.cut.bits {
                    left -= 1;
                    search.cut.end = element + 1;
                }
            }
        })?;
    }
    Ok(())
}

fn add(all: &mut [u64], own: &[u64]) {
    all.iter_mut().zip(own).for_each(|(all, own)| *all += own);
}
