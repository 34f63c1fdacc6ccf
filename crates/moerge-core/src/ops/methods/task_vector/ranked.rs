//! Keeping elements with a probability that grows with their rank by magnitude in their row.
//!
//! Sorting the rows would take most of the time of the whole merge. Instead, magnitudes are counted in narrow buckets: a
//! bucket's ranks bound the probabilities of its elements, and an element's random number mostly lies outside of these
//! bounds, which decides. Only what lies between needs its exact rank.

use super::super::Place;
use super::Key;
use crate::numeric::{
    noise::{bound, uniform_words},
    ranks::{Order, magnitude_and_place},
};

/// Probabilities that grow with the rank in the row: `lowest` for the smallest magnitude, `lowest + range` for the
/// largest. The mean of both for a row of one element.
pub(in super::super) struct Ranked {
    pub lowest: f64,
    pub range: f64,
    /// The sorted magnitudes of a vector, which is one row.
    pub vector: Option<Vec<u64>>,
}

impl Ranked {
    /// Sets the elements of `values` that do not stay to 0; NaN stays NaN. `values` are whole rows that lie at `place`.
    pub fn apply(&self, key: &Key, values: &mut [f32], place: Place) {
        let Key { seed, name, input } = key;
        let mut words = Vec::new();
        if let Some(sorted) = &self.vector {
            uniform_words(*seed, name, *input, place.first, values.len(), &mut words);
            for ((value, word), element) in values.iter_mut().zip(&words).zip(place.first..) {
                let own = magnitude_and_place(*value, element);
                let rank = sorted.partition_point(|other| *other < own);
                keep(value, u64::from(*word) < self.bound(rank, sorted.len()));
            }
            return;
        }
        let columns = place.columns.max(1);
        let bounds: Vec<u64> = (0..columns).map(|rank| self.bound(rank, columns)).collect();
        let mut row_of = Row::default();
        for (row, first) in values.chunks_mut(columns).zip((place.first..).step_by(columns)) {
            uniform_words(*seed, name, *input, first, row.len(), &mut words);
            row_of.thin(row, &words, &bounds);
        }
    }

    /// The probability at a rank, as a bound of random numbers.
    fn bound(&self, rank: usize, length: usize) -> u64 {
        let rank = if length > 1 { rank as f64 / (length - 1) as f64 } else { 0.5 };
        bound(self.lowest + self.range * rank)
    }
}

/// Buckets of a row: 256 for each power of two, eight of these below the largest magnitude; what is smaller is in the
/// first bucket.
const BUCKETS: usize = 8 << 8;
/// Bits of a magnitude that a bucket leaves open.
const OPEN_BITS: u32 = 15;
/// How many elements are compared with the whole row before all of it is sorted.
const COMPARED: usize = 24;

/// The buffers for a row.
#[derive(Default)]
struct Row {
    buckets: Vec<Bucket>,
    undecided: Vec<usize>,
    order: Order,
}

#[derive(Clone, Copy)]
struct Bucket {
    /// Elements in it; while elements with exact ranks are counted, the rank of the next.
    count: u32,
    /// Bits that all of its magnitudes have, and that any has: they are equal if these are.
    all: u32,
    any: u32,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { count: 0, all: u32::MAX, any: 0 }
    }
}

impl Row {
    /// Keeps the elements of `row` whose word is below the bound of their rank.
    fn thin(&mut self, row: &mut [f32], words: &[u32], bounds: &[u64]) {
        let first = self.fill(row);
        let mut begin = 0;
        let limits: Vec<(u64, u64)> = self
            .buckets
            .iter_mut()
            .map(|bucket| {
                let end = begin + bucket.count as usize;
                let limits = if end > begin { (bounds[begin], bounds[end - 1]) } else { (0, 0) };
                bucket.count = std::mem::replace(&mut begin, end) as u32;
                limits
            })
            .collect();
        self.undecided.clear();
        for (column, (value, word)) in row.iter().zip(words).enumerate() {
            let (low, high) = limits[bucket_of(*value, first)];
            let word = u64::from(*word);
            if word >= low && word < high {
                self.undecided.push(column);
            }
        }
        if self.undecided.is_empty() {
            Self::keep_by(row, words, first, &limits);
        } else if self.undecided.len() <= COMPARED {
            let own: Vec<bool> =
                self.undecided.iter().map(|column| u64::from(words[*column]) < bounds[rank(row, *column)]).collect();
            let before: Vec<f32> = self.undecided.iter().map(|column| row[*column]).collect();
            Self::keep_by(row, words, first, &limits);
            for ((column, own), before) in self.undecided.iter().zip(own).zip(before) {
                row[*column] = before;
                keep(&mut row[*column], own);
            }
        } else if self.undecided.iter().all(|column| self.buckets[bucket_of(row[*column], first)].is_of_equals()) {
            self.keep_counted(row, words, first, bounds);
        } else {
            self.keep_sorted(row, words, bounds);
        }
    }

    /// Counts the elements of `row`; the bits of the first bucket.
    fn fill(&mut self, row: &[f32]) -> u32 {
        let largest = row.iter().map(|value| bits(*value)).max().unwrap_or(0);
        let first = (largest >> OPEN_BITS).saturating_sub(BUCKETS as u32 - 1);
        self.buckets.clear();
        self.buckets.resize(BUCKETS, Bucket::default());
        for value in row {
            let bucket = &mut self.buckets[bucket_of(*value, first)];
            bucket.count += 1;
            bucket.all &= bits(*value);
            bucket.any |= bits(*value);
        }
        first
    }

    fn keep_by(row: &mut [f32], words: &[u32], first: u32, limits: &[(u64, u64)]) {
        for (value, word) in row.iter_mut().zip(words) {
            let (low, _) = limits[bucket_of(*value, first)];
            keep(value, u64::from(*word) < low);
        }
    }

    /// Where all that is undecided is among equals: these rank by column.
    fn keep_counted(&mut self, row: &mut [f32], words: &[u32], first: u32, bounds: &[u64]) {
        for (value, word) in row.iter_mut().zip(words) {
            let bucket = &mut self.buckets[bucket_of(*value, first)];
            let rank = bucket.count as usize;
            bucket.count += 1;
            keep(value, u64::from(*word) < bounds[rank]);
        }
    }

    fn keep_sorted(&mut self, row: &mut [f32], words: &[u32], bounds: &[u64]) {
        let columns: Vec<usize> = self.order.columns(row).collect();
        for (column, bound) in columns.into_iter().zip(bounds) {
            keep(&mut row[column], u64::from(words[column]) < *bound);
        }
    }
}

impl Bucket {
    fn is_of_equals(&self) -> bool {
        self.all == self.any
    }
}

fn bits(value: f32) -> u32 {
    value.to_bits() & (u32::MAX >> 1)
}

fn bucket_of(value: f32, first: u32) -> usize {
    ((bits(value) >> OPEN_BITS).saturating_sub(first) as usize).min(BUCKETS - 1)
}

/// The rank of an element by magnitude, then by column.
fn rank(row: &[f32], column: usize) -> usize {
    let own = bits(row[column]);
    let (before, after) = row.split_at(column);
    before.iter().filter(|value| bits(**value) <= own).count()
        + after.iter().filter(|value| bits(**value) < own).count()
}

/// A product rather than a branch: NaN stays NaN, so that it is noticed.
fn keep(value: &mut f32, keep: bool) {
    *value *= if keep { 1.0 } else { 0.0 };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::noise::uniform;

    fn thinned(row: &[f32], words: &[u32], thin: impl Fn(&mut Row, &mut [f32], &[u32], &[u64])) -> Vec<f32> {
        let ranked = Ranked { lowest: 0.2, range: 0.6, vector: None };
        let bounds: Vec<u64> = (0..row.len()).map(|rank| ranked.bound(rank, row.len())).collect();
        let mut row = row.to_vec();
        thin(&mut Row::default(), &mut row, words, &bounds);
        row
    }

    #[test]
    fn counting_keeps_what_sorting_keeps() {
        let mut words = Vec::new();
        for (seed, length) in [(1, 1), (2, 2), (3, 100), (4, 5000)] {
            uniform_words(seed, "x", 0, 0, length, &mut words);
            let plain = uniform(length, seed, "x");
            let rows: [Vec<f32>; 5] = [
                plain.clone(),
                // Few distinct values, most of them 0.
                plain.iter().map(|x| (x * 3.0).trunc() / 4096.0).collect(),
                // Many powers of two.
                plain.iter().map(|x| x.powi(31)).collect(),
                // Much of it in one bucket, and not equal.
                plain.iter().map(|x| 1.0 + x / 1024.0).collect(),
                plain.iter().map(|x| if *x > 0.9 { f32::INFINITY } else { x.trunc() }).collect(),
            ];
            for row in rows {
                let sorted = thinned(&row, &words, |own, row, words, bounds| own.keep_sorted(row, words, bounds));
                let counted = thinned(&row, &words, |own, row, words, bounds| own.thin(row, words, bounds));
                let same = sorted.iter().zip(&counted).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{length} elements");
            }
        }
    }
}
