//! Random masks: a uniform 32-bit number for each element, which is a hash of (seed, tensor name, input, element).
//!
//! A hash rather than a generator: any thread can start at any element, and eight numbers are computed at once. It is no
//! cipher; masks only need numbers that look uniform and independent.

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::simd::vectorised;

/// The random numbers of one input of a merge, for a tensor.
#[derive(Debug, Clone, Copy)]
pub struct RandomNumbers {
    keys: [u32; 4],
}

/// Elements whose numbers are computed at once.
const BLOCK: usize = 256;

impl RandomNumbers {
    /// Those of tensor `name`; each `input` has its own.
    pub fn new(seed: u64, name: &str, input: u64) -> Self {
        let hash = xxh3_128_with_seed(name.as_bytes(), seed ^ (input + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { keys: [0, 32, 64, 96].map(|shift| (hash >> shift) as u32) }
    }

    /// Fills `words` with the numbers of the elements from `first` on.
    pub fn fill(&self, first: u64, words: &mut [u32]) {
        // The upper half of an element's index changes once in 2^32 elements.
        let mut done = 0;
        while done < words.len() {
            let element = first + done as u64;
            let (upper, lower) = ((element >> 32) as u32, element as u32);
            let count = (words.len() - done).min((u32::MAX - lower) as usize + 1);
            let keys = [self.keys[0], self.keys[1], self.keys[2] ^ upper.wrapping_mul(0x85eb_ca6b), self.keys[3]];
            let words = &mut words[done..done + count];
            vectorised(
                #[inline(always)]
                || words.iter_mut().zip(0u32..).for_each(|(word, index)| *word = mix(lower.wrapping_add(index), keys)),
            );
            done += count;
        }
    }

    /// Sets random elements of `values`, the tensor's from `first` on, to 0: each stays with the probability `density`.
    /// NaN stays NaN, so that it is detected.
    pub fn drop_elements(&self, values: &mut [f32], first: u64, density: f64) {
        let bound = bound(density);
        let mut words = [0; BLOCK];
        for (values, first) in values.chunks_mut(BLOCK).zip((first..).step_by(BLOCK)) {
            let words = &mut words[..values.len()];
            self.fill(first, words);
            for (value, word) in values.iter_mut().zip(words) {
                *value *= if u64::from(*word) < bound { 1.0 } else { 0.0 };
            }
        }
    }
}

/// Converts a probability to a bound: a uniform 32-bit number is below it with this probability.
fn bound(probability: f64) -> u64 {
    (probability * 4_294_967_296.0) as u64
}

/// Rounds of shifts and multiplications, as in Murmur's and Wellons' hashes, with a key after each.
#[inline(always)]
fn mix(element: u32, keys: [u32; 4]) -> u32 {
    let mut x = element.wrapping_mul(0x9e37_79b1).wrapping_add(keys[0]);
    x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad).wrapping_add(keys[1]);
    x = (x ^ (x >> 15)).wrapping_mul(0xd35a_2d97).wrapping_add(keys[2]);
    x = (x ^ (x >> 15)).wrapping_mul(0x735a_2d97).wrapping_add(keys[3]);
    x ^ (x >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(name: &str, input: u64, first: u64, count: usize) -> Vec<u32> {
        let mut words = vec![0; count];
        RandomNumbers::new(7, name, input).fill(first, &mut words);
        words
    }

    #[test]
    fn numbers_do_not_depend_on_where_a_piece_starts() {
        let first = (1 << 32) - 100;
        let whole = numbers("w", 0, first, 5000);
        assert_eq!(numbers("w", 0, first + 150, 4000), whole[150..4150]);
        assert_ne!(numbers("w", 1, first, 5000), whole);
        assert_ne!(numbers("v", 0, first, 5000), whole);
    }

    /// Counts of 256 classes are as a chi-squared test expects, for the numbers and for what neighbours, other inputs
    /// and other tensors have in common with them.
    #[test]
    fn numbers_look_uniform_and_independent() {
        const COUNT: usize = 1 << 18;
        let check = |what: &str, classes: &mut dyn Iterator<Item = u32>| {
            let mut counts = [0.0; 256];
            classes.for_each(|class| counts[class as usize] += 1.0);
            let expected = COUNT as f64 / 256.0;
            let chi: f64 = counts.iter().map(|count| (count - expected) * (count - expected) / expected).sum();
            // 255 degrees of freedom: mean 255, standard deviation 22.6.
            assert!((150.0..360.0).contains(&chi), "{what}: {chi}");
        };
        let one = numbers("w", 0, 0, COUNT + 4096);
        let other = numbers("w", 1, 0, COUNT);
        let name = numbers("v", 0, 0, COUNT);
        check("high bits", &mut one.iter().take(COUNT).map(|x| x >> 24));
        check("low bits", &mut one.iter().take(COUNT).map(|x| x & 255));
        for distance in [1, 2, 3, 8, 256, 4096] {
            let pairs = one.iter().zip(&one[distance..]).take(COUNT);
            check("pairs", &mut pairs.map(|(a, b)| (a >> 28) << 4 | b >> 28));
        }
        check("inputs", &mut one.iter().zip(&other).map(|(a, b)| (a >> 28) << 4 | b >> 28));
        check("tensors", &mut one.iter().zip(&name).map(|(a, b)| (a >> 28) << 4 | b >> 28));
    }

    #[test]
    fn a_part_of_the_elements_stays() {
        let mut values = vec![1.0; 20_000];
        values[3] = f32::NAN;
        RandomNumbers::new(7, "w", 0).drop_elements(&mut values, 0, 0.3);
        let kept = values.iter().filter(|x| **x == 1.0).count();
        assert!((kept as f64 - 6_000.0).abs() < 3.0 * (20_000.0 * 0.3 * 0.7f64).sqrt(), "{kept}");
        assert!(values[3].is_nan());
    }
}
