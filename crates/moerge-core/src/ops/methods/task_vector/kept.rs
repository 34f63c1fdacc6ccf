//! Which elements of a vector stay, as a bit each: what took a whole pass to find is not computed twice.

use crate::numeric::simd::vectorised;

/// Bits of a word.
const WORD: usize = 64;
/// Elements whose bits are found at once.
const HALF: usize = WORD / 2;

/// A bit for each element that is not 0.
fn bits_of(values: &[f32; HALF]) -> u32 {
    vectorised(
        #[inline(always)]
        || values.iter().zip(0..).fold(0, |bits, (value, bit)| bits | u32::from(*value != 0.0) << bit),
    )
}

/// The elements that stay, in order.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Kept {
    words: Vec<u64>,
    /// Elements so far.
    length: usize,
}

impl Kept {
    /// Bytes for this many elements.
    pub fn bytes(elements: u64) -> u64 {
        elements / 8
    }

    /// Appends elements of which those that do not stay are 0 by now. A zero need not stay, and NaN does.
    pub fn extend(&mut self, thinned: &[f32]) {
        for values in thinned.chunks(WORD) {
            let (halves, rest) = values.as_chunks::<HALF>();
            let word = halves.iter().zip(0..).fold(0, |word, (half, n)| word | u64::from(bits_of(half)) << (n * HALF));
            let bits = rest.iter().zip(0..).fold(0, |bits, (value, bit)| bits | u64::from(*value != 0.0) << bit);
            self.push(word | bits << (halves.len() * HALF % WORD), values.len());
        }
    }

    /// Appends those of `other`.
    pub fn append(&mut self, other: &Self) {
        for (index, word) in other.words.iter().enumerate() {
            self.push(*word, (other.length - index * WORD).min(WORD));
        }
    }

    /// Sets the elements of `values` that do not stay to 0. They are those of the vector from `first` on.
    pub fn apply(&self, first: usize, values: &mut [f32]) {
        for (values, at) in values.chunks_mut(WORD).zip((first..).step_by(WORD)) {
            let word = self.word(at);
            vectorised(
                #[inline(always)]
                || {
                    for (half, values) in [word as u32, (word >> 32) as u32].into_iter().zip(values.chunks_mut(HALF)) {
                        // Products: where a mask selects, the compiler makes masked stores of it, which are slow.
                        values.iter_mut().zip(0..).for_each(|(value, bit)| *value *= (half >> bit & 1) as i32 as f32);
                    }
                },
            );
        }
    }

    fn push(&mut self, word: u64, bits: usize) {
        let used = self.length % WORD;
        match self.words.last_mut().filter(|_| used > 0) {
            None => self.words.push(word),
            Some(last) => {
                *last |= word << used;
                if used + bits > WORD {
                    self.words.push(word >> (WORD - used));
                }
            }
        }
        self.length += bits;
    }

    /// The bits from element `at` on.
    fn word(&self, at: usize) -> u64 {
        let get = |index: usize| self.words.get(index).copied().unwrap_or(0);
        match at % WORD {
            0 => get(at / WORD),
            used => get(at / WORD) >> used | get(at / WORD + 1) << (WORD - used),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::noise::uniform;

    #[test]
    fn parts_of_any_length_give_what_was_kept() {
        let values = uniform(1000, 1, "x");
        let thinned: Vec<f32> = values.iter().map(|x| if *x > 0.3 { 0.0 } else { *x }).collect();
        let mut kept = Kept::default();
        let mut rest = &thinned[..];
        for length in [1, 64, 63, 7, 130, 500] {
            let (now, later) = rest.split_at(length);
            let mut own = Kept::default();
            own.extend(&now[..length / 2]);
            own.extend(&now[length / 2..]);
            kept.append(&own);
            rest = later;
        }
        kept.extend(rest);
        for (first, length) in [(0, 1000), (3, 500), (64, 64), (65, 1), (999, 1), (130, 333)] {
            let mut applied = values[first..first + length].to_vec();
            kept.apply(first, &mut applied);
            assert_eq!(applied, thinned[first..first + length], "{first} {length}");
        }
        let mut nan = Kept::default();
        nan.extend(&[f32::NAN, 0.0]);
        let mut values = [f32::NAN, 1.0];
        nan.apply(0, &mut values);
        assert!(values[0].is_nan() && values[1] == 0.0);
    }
}
