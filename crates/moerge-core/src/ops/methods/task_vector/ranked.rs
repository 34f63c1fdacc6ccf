//! Keeping elements with a probability that grows with their rank by magnitude in their row.
//!
//! Sorting the rows would take most of the time of the whole merge. Instead, an element's random number is turned into
//! the lowest rank at which the element stays, and magnitudes are counted in narrow buckets: the ranks of a bucket
//! mostly lie all above or all below it, which decides. Only what lies between needs its exact rank.

use super::super::Place;
use super::key::Key;
use crate::numeric::{
    ranks::{Order, magnitude_and_place},
    simd::vectorised,
};

/// Probabilities that grow with the rank in the row: `lowest` for the smallest magnitude, `lowest + range` for the
/// largest. The mean of both for a row of one element.
pub(in super::super) struct Ranked {
    pub lowest: f64,
    /// More than 0.
    pub range: f64,
    /// The sorted magnitudes of a vector, which is one row.
    pub vector: Option<Vec<u64>>,
}

impl Ranked {
    /// Sets the elements of `values` that do not stay to 0; NaN stays NaN. `values` are whole rows that lie at `place`.
    pub fn apply(&self, key: &Key, values: &mut [f32], place: Place) {
        let numbers = key.numbers();
        let mut ranks = Vec::new();
        if let Some(sorted) = &self.vector {
            ranks.resize(values.len(), 0);
            numbers.fill(place.first, &mut ranks);
            self.lowest_ranks(&mut ranks, sorted.len());
            for ((value, lowest), element) in values.iter_mut().zip(&ranks).zip(place.first..) {
                let own = magnitude_and_place(*value, element);
                keep(value, sorted.partition_point(|other| *other < own) >= *lowest as usize);
            }
            return;
        }
        let columns = place.columns.max(1);
        let mut row_of = Row::default();
        for (row, first) in values.chunks_mut(columns).zip((place.first..).step_by(columns)) {
            ranks.resize(row.len(), 0);
            numbers.fill(first, &mut ranks);
            self.lowest_ranks(&mut ranks, row.len());
            row_of.thin(row, &ranks);
        }
    }

    /// Turns random numbers into the lowest ranks at which their elements stay, in a row of `length` elements; `length`
    /// for never.
    fn lowest_ranks(&self, numbers: &mut [u32], length: usize) {
        if length < 2 {
            let middle = (self.lowest + self.range / 2.0) as f32;
            numbers.iter_mut().for_each(|x| *x = u32::from(unit(*x) >= middle));
            return;
        }
        let lowest = self.lowest as f32;
        let (scale, most) = (((length - 1) as f64 / self.range) as f32, length as f32);
        // An element stays where `number < lowest + range rank / (length - 1)`.
        if length > MAX_FLOORED {
            numbers.iter_mut().for_each(|x| *x = ((unit(*x) - lowest) * scale + 1.0).max(0.0).min(most) as u32);
            return;
        }
        vectorised(
            #[inline(always)]
            || {
                for x in numbers {
                    *x = floor(((unit(*x) - lowest) * scale + 1.0).max(0.0).min(most));
                }
            },
        );
    }
}

/// The largest number that [`floor`] takes.
const MAX_FLOORED: usize = 1 << 22;

/// The integer part of a number from 0 to [`MAX_FLOORED`]. A cast, which saturates, would not be vectorised.
#[inline(always)]
fn floor(x: f32) -> u32 {
    /// 2^23: a sum with it is rounded to an integer.
    const ROUND: f32 = 8_388_608.0;
    let nearest = (x + ROUND) - ROUND;
    let floor = nearest - if nearest > x { 1.0 } else { 0.0 };
    (floor + ROUND).to_bits() & (ROUND as u32 - 1)
}

/// From 0 on and below 1.
#[inline(always)]
fn unit(number: u32) -> f32 {
    (number >> 8) as i32 as f32 * (1.0 / 16_777_216.0)
}

/// Buckets of a row: 256 for each power of two, eight of these below the largest magnitude; what is smaller is in the
/// first bucket.
const BUCKETS: usize = 8 << 8;
/// Bits of a magnitude that a bucket leaves open.
const OPEN_BITS: u32 = 15;
/// Elements that are decided at once.
const BLOCK: usize = 64;
/// How many elements are compared with the whole row before all of it is sorted.
const COMPARED: usize = 32;

/// The buffers for a row.
#[derive(Default)]
struct Row {
    /// The magnitude of each element as bits.
    bits: Vec<u32>,
    /// The bucket of each element.
    buckets: Vec<u16>,
    /// For each bucket the ranks of its elements: the first, and the one after the last.
    ranks: Vec<[u32; 2]>,
    /// The row as it was.
    values: Vec<f32>,
    /// For each element the ranks of its bucket: the first, and the one after the last.
    firsts: Vec<u32>,
    ends: Vec<u32>,
    /// Columns of the elements whose exact rank decides.
    undecided: Vec<usize>,
    order: Order,
}

impl Row {
    /// Keeps the elements of `row` whose rank is at least the one in `lowest`.
    fn thin(&mut self, row: &mut [f32], lowest: &[u32]) {
        self.count(row);
        self.values.clear();
        self.values.extend_from_slice(row);
        self.look_up();
        let (firsts, ends) = (self.firsts.chunks(BLOCK), self.ends.chunks(BLOCK));
        let blocks = row.chunks_mut(BLOCK).zip(lowest.chunks(BLOCK)).zip(firsts.zip(ends)).enumerate();
        self.undecided.clear();
        for (block, ((row, lowest), (firsts, ends))) in blocks {
            if any_undecided(row, lowest, firsts, ends) {
                for (index, value) in row.iter().enumerate() {
                    if is_undecided(*value, lowest[index], firsts[index], ends[index]) {
                        self.undecided.push(block * BLOCK + index);
                    }
                }
            }
            // Half of all branches on random numbers are mispredicted: this becomes comparisons and masks.
            vectorised(
                #[inline(always)]
                || row.iter_mut().zip(lowest).zip(firsts).for_each(|((value, low), first)| keep(value, low <= first)),
            );
        }
        if self.undecided.len() > COMPARED {
            let columns: Vec<usize> = self.order.columns_of_bits(&self.bits).collect();
            row.copy_from_slice(&self.values);
            for (rank, column) in columns.into_iter().enumerate() {
                keep(&mut row[column], rank >= lowest[column] as usize);
            }
            return;
        }
        for column in &self.undecided {
            row[*column] = self.values[*column];
            keep(&mut row[*column], self.rank(*column) >= lowest[*column]);
        }
    }

    /// Puts the ranks of each element's bucket beside each other.
    fn look_up(&mut self) {
        self.firsts.resize(self.buckets.len(), 0);
        self.ends.resize(self.buckets.len(), 0);
        let places = self.firsts.iter_mut().zip(&mut self.ends);
        for ((first, end), bucket) in places.zip(&self.buckets) {
            [*first, *end] = self.ranks[usize::from(*bucket) % BUCKETS];
        }
    }

    /// Counts the elements of `row` in their buckets.
    fn count(&mut self, row: &[f32]) {
        let (all, buckets) = (&mut self.bits, &mut self.buckets);
        all.resize(row.len(), 0);
        buckets.resize(row.len(), 0);
        vectorised(
            #[inline(always)]
            || {
                let mut largest = 0;
                for (bits, value) in all.iter_mut().zip(row) {
                    *bits = value.to_bits() & (u32::MAX >> 1);
                    largest = largest.max(*bits as i32);
                }
                let first = (largest >> OPEN_BITS) - (BUCKETS as i32 - 1);
                for (bucket, bits) in buckets.iter_mut().zip(all.iter()) {
                    *bucket = ((*bits >> OPEN_BITS) as i32 - first).max(0) as u16;
                }
            },
        );
        self.ranks.clear();
        self.ranks.resize(BUCKETS, [0; 2]);
        self.buckets.iter().for_each(|bucket| self.ranks[usize::from(*bucket) % BUCKETS][1] += 1);
        let mut end = 0;
        for ranks in &mut self.ranks {
            ranks[0] = end;
            end += ranks[1];
            ranks[1] = end;
        }
    }

    /// The rank of an element by magnitude, then by column.
    fn rank(&self, column: usize) -> u32 {
        let own = self.bits[column] as i32;
        let (before, after) = self.bits.split_at(column);
        vectorised(
            #[inline(always)]
            || {
                // Signed numbers, which AVX2 compares.
                let before: u32 = before.iter().map(|bits| u32::from(*bits as i32 <= own)).sum();
                let after: u32 = after.iter().map(|bits| u32::from((*bits as i32) < own)).sum();
                before + after
            },
        )
    }
}

/// Whether the ranks of an element's bucket lie on both sides of the lowest at which it stays. A zero stays one whatever
/// is decided.
#[inline(always)]
fn is_undecided(value: f32, lowest: u32, first: u32, end: u32) -> bool {
    (lowest > first) & (lowest < end) & (value != 0.0)
}

fn any_undecided(row: &[f32], lowest: &[u32], firsts: &[u32], ends: &[u32]) -> bool {
    vectorised(
        #[inline(always)]
        || {
            let mut any = 0;
            for ((value, lowest), (first, end)) in row.iter().zip(lowest).zip(firsts.iter().zip(ends)) {
                any |= u32::from(is_undecided(*value, *lowest, *first, *end));
            }
            any != 0
        },
    )
}

/// A product rather than a branch: NaN stays NaN, so that it is noticed.
#[inline(always)]
fn keep(value: &mut f32, keep: bool) {
    *value *= if keep { 1.0 } else { 0.0 };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::{masks::RandomNumbers, noise::uniform};

    /// By the definition.
    fn sorted(row: &[f32], lowest: &[u32]) -> Vec<f32> {
        let mut kept = row.to_vec();
        for (rank, column) in Order::default().columns(row).enumerate() {
            keep(&mut kept[column], rank >= lowest[column] as usize);
        }
        kept
    }

    #[test]
    fn counting_keeps_what_sorting_keeps() {
        let ranked = Ranked { lowest: 0.2, range: 0.6, vector: None };
        for (seed, length) in [(1, 1), (2, 2), (3, 100), (4, 5000)] {
            let mut lowest = vec![0; length];
            RandomNumbers::new(seed, "x", 0).fill(0, &mut lowest);
            ranked.lowest_ranks(&mut lowest, length);
            let plain = uniform(length, seed, "x");
            let rows: [Vec<f32>; 6] = [
                plain.clone(),
                // Few distinct values, most of them 0.
                plain.iter().map(|x| (x * 3.0).trunc() / 4096.0).collect(),
                // Many powers of two.
                plain.iter().map(|x| x.powi(31)).collect(),
                // Much of it in one bucket, and not equal.
                plain.iter().map(|x| 1.0 + x / 1024.0).collect(),
                plain.iter().map(|x| if *x > 0.9 { f32::INFINITY } else { x.trunc() }).collect(),
                // Two values.
                plain.iter().map(|x| if *x > 0.0 { 1.0 } else { -2.0 }).collect(),
            ];
            for row in rows {
                let mut counted = row.clone();
                Row::default().thin(&mut counted, &lowest);
                let same = sorted(&row, &lowest).iter().zip(&counted).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{length} elements");
            }
        }
    }

    #[test]
    fn floors_are_those_of_a_cast() {
        let numbers = (0..4096).map(|n| n as f32 / 16.0).chain([4_194_304.0, 4_194_303.5, 4_194_302.5, 0.999_999_94]);
        numbers.for_each(|x| assert_eq!(floor(x), x as u32, "{x}"));
    }

    #[test]
    fn elements_stay_with_the_probability_of_their_rank() {
        let ranked = Ranked { lowest: 0.2, range: 0.6, vector: None };
        let (length, rows) = (5, 20_000);
        let mut kept = [0; 5];
        for row in 0..rows {
            let mut lowest = vec![0; length];
            RandomNumbers::new(3, "x", 0).fill(row * length as u64, &mut lowest);
            ranked.lowest_ranks(&mut lowest, length);
            (0..length).for_each(|rank| kept[rank] += u32::from(lowest[rank] as usize <= rank));
        }
        for (rank, kept) in kept.into_iter().enumerate() {
            let (found, expected) = (f64::from(kept) / rows as f64, 0.2 + 0.6 * rank as f64 / 4.0);
            assert!((found - expected).abs() < 3.0 * (expected * (1.0 - expected) / rows as f64).sqrt(), "{found}");
        }
    }
}
