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
}
