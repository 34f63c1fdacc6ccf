//! Random numbers that depend only on (seed, tensor name, element), so they are the same on every machine, for any
//! number of threads, and in resumed runs.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Adds `scale * N(0, 1)` to `values`, which are the elements of tensor `name` from `first` on.
pub fn add_noise(values: &mut [f32], seed: u64, name: &str, first: u64, scale: f64) {
    let mut words = words(seed, name, first);
    for value in values {
        *value = (f64::from(*value) + scale * normal(words.next_u32(), words.next_u32())) as f32;
    }
}

/// Converts a probability to a bound: a uniform 32-bit number is below it with this probability.
pub fn bound(probability: f64) -> u64 {
    (probability * 4_294_967_296.0) as u64
}

/// Sets random elements of `values`, the elements of tensor `name` from `first` on, to 0. NaN stays NaN, so that it is
/// detected. Value `i` is kept if its random number is below `bound(i)`.
///
/// `input` is the index of a merge's input; each input has its own random numbers, independent of those of noise.
pub fn drop_elements(values: &mut [f32], seed: u64, name: &str, input: u64, first: u64, bound: impl Fn(usize) -> u64) {
    const BLOCK: usize = 256;
    let mut words = generator(seed, name);
    words.set_stream(input + 1);
    words.set_word_pos(u128::from(first));
    let mut bytes = [0; 4 * BLOCK];
    for (block, values) in values.chunks_mut(BLOCK).enumerate() {
        let bytes = &mut bytes[..4 * values.len()];
        words.fill_bytes(bytes);
        for ((value, word), index) in values.iter_mut().zip(bytes.as_chunks::<4>().0).zip(block * BLOCK..) {
            *value *= if u64::from(u32::from_le_bytes(*word)) < bound(index) { 1.0 } else { 0.0 };
        }
    }
}

/// Puts a uniform 32-bit number for each of `count` elements of tensor `name` from `first` on into `words`. They are the
/// numbers that [`drop_elements`] compares with its bounds.
pub fn uniform_words(seed: u64, name: &str, input: u64, first: u64, count: usize, words: &mut Vec<u32>) {
    let mut generator = generator(seed, name);
    generator.set_stream(input + 1);
    generator.set_word_pos(u128::from(first));
    words.clear();
    let mut bytes = [0; 1024];
    for at in (0..count).step_by(256) {
        let bytes = &mut bytes[..4 * (count - at).min(256)];
        generator.fill_bytes(bytes);
        words.extend(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)));
    }
}

/// Uniform numbers in (-1, 1): the first `count` elements of tensor `name`.
pub fn uniform(count: usize, seed: u64, name: &str) -> Vec<f32> {
    let mut words = words(seed, name, 0);
    let mut next = || (words.next_u32(), words.next_u32()).0;
    (0..count).map(|_| (2.0 * unit(next()) - 1.0) as f32).collect()
}

/// The stream of tensor `name` from element `first` on; element i owns its words 2i and 2i + 1.
fn words(seed: u64, name: &str, first: u64) -> ChaCha8Rng {
    let mut words = generator(seed, name);
    words.set_word_pos(u128::from(first) * 2);
    words
}

fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(name.as_bytes(), seed))
}

/// In the open interval (0, 1).
fn unit(word: u32) -> f64 {
    (f64::from(word) + 0.5) / 4_294_967_296.0
}

/// Box-Muller. Uses libm rather than the system's math library, so that all machines agree on the last bit.
fn normal(a: u32, b: u32) -> f64 {
    libm::sqrt(-2.0 * libm::log(unit(a))) * libm::cos(std::f64::consts::TAU * unit(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_normal_and_does_not_depend_on_where_it_starts() {
        let mut whole = vec![0.0; 20_000];
        add_noise(&mut whole, 7, "w", 0, 0.5);
        let mean = whole.iter().map(|x| f64::from(*x)).sum::<f64>() / 20_000.0;
        let deviation = (whole.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 20_000.0).sqrt();
        assert!(mean.abs() < 0.02 && (deviation - 0.5).abs() < 0.02, "{mean} {deviation}");

        let mut tail = vec![0.0; 5_000];
        add_noise(&mut tail, 7, "w", 15_000, 0.5);
        assert_eq!(tail, whole[15_000..]);

        let mut other = vec![0.0; 5_000];
        add_noise(&mut other, 7, "v", 15_000, 0.5);
        assert_ne!(other, tail);
    }

    #[test]
    fn drops_the_same_elements_wherever_it_starts() {
        let dropped = |count: usize, name, input, first| {
            let mut values = vec![1.0; count];
            drop_elements(&mut values, 7, name, input, first, |_| bound(0.3));
            values
        };
        let whole = dropped(20_000, "w", 0, 0);
        let kept = whole.iter().filter(|x| **x != 0.0).count();
        assert!((kept as f64 - 6_000.0).abs() < 3.0 * (20_000.0 * 0.3 * 0.7f64).sqrt(), "{kept}");
        assert_eq!(dropped(5_000, "w", 0, 15_000), whole[15_000..]);
        assert_ne!(dropped(20_000, "w", 1, 0), whole);
        assert_ne!(dropped(20_000, "v", 0, 0), whole);
    }
}
