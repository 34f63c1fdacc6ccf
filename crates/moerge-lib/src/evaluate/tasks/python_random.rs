//! CPython's `random.Random`, number for number: the lm-evaluation-harness draws solved examples with it, so the prompts
//! depend on it.
//!
//! MT19937 by Matsumoto and Nishimura (ACM TOMACS 8, 1998), seeded by `init_by_array`; `sample` and `shuffle` are those
//! of CPython's `Lib/random.py`. No crate offers these two.

use std::collections::HashSet;

const N: usize = 624;
const M: usize = 397;

/// A generator with CPython's algorithms.
#[derive(Clone)]
pub struct PythonRandom {
    state: [u32; N],
    index: usize,
}

impl PythonRandom {
    /// `random.Random(seed)`.
    pub fn new(seed: u32) -> Self {
        let mut random = Self::plain(19_650_218);
        let state = &mut random.state;
        let mixed = |before: u32| before ^ (before >> 30);
        let mut i = 1;
        let wrap = |state: &mut [u32; N], i: &mut usize| {
            *i += 1;
            if *i >= N {
                state[0] = state[N - 1];
                *i = 1;
            }
        };
        for _ in 0..N {
            state[i] = (state[i] ^ mixed(state[i - 1]).wrapping_mul(1_664_525)).wrapping_add(seed);
            wrap(state, &mut i);
        }
        for _ in 0..N - 1 {
            state[i] = (state[i] ^ mixed(state[i - 1]).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            wrap(state, &mut i);
        }
        state[0] = 0x8000_0000;
        random
    }

    /// MT19937 as its authors seed it with one number.
    fn plain(seed: u32) -> Self {
        let mut state = [seed; N];
        for i in 1..N {
            let before = state[i - 1];
            state[i] = (before ^ (before >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, index: N }
    }

    fn next_u32(&mut self) -> u32 {
        if self.index == N {
            for i in 0..N {
                let bits = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let odd = if bits & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (bits >> 1) ^ odd;
            }
            self.index = 0;
        }
        let mut y = self.state[self.index];
        self.index += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `_randbelow(n)`; `n` is at least 1.
    fn below(&mut self, n: u32) -> u32 {
        let bits = u32::BITS - n.leading_zeros();
        loop {
            let drawn = self.next_u32() >> (32 - bits);
            if drawn < n {
                return drawn;
            }
        }
    }

    /// `sample(range(population), count)`; `None` if there are fewer than `count`.
    pub fn sample(&mut self, population: usize, count: usize) -> Option<Vec<usize>> {
        let n = u32::try_from(population).ok().filter(|_| count <= population)?;
        // Above this, a set of the drawn is smaller than a list of all.
        let mut set_size = 21;
        if count > 5 {
            let power = (0..).find(|power| 4usize.saturating_pow(*power) >= 3 * count)?;
            set_size += 4usize.saturating_pow(power);
        }
        let count = count as u32;
        if population <= set_size {
            let mut pool: Vec<usize> = (0..population).collect();
            let draw = |i: u32| {
                let last = (n - i - 1) as usize;
                let drawn = self.below(n - i) as usize;
                let chosen = pool[drawn];
                pool[drawn] = pool[last];
                chosen
            };
            return Some((0..count).map(draw).collect());
        }
        let mut drawn = HashSet::new();
        let draw = |_| loop {
            let index = self.below(n) as usize;
            if drawn.insert(index) {
                return index;
            }
        };
        Some((0..count).map(draw).collect())
    }

    /// `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u32 + 1) as usize;
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The values are CPython 3's: `r = random.Random(1234); r.sample(range(n), k)`.
    #[test]
    fn samples_are_those_of_cpython() {
        let mut random = PythonRandom::new(1234);
        let expected: &[(usize, &[usize])] = &[
            (10, &[7, 1, 0]),
            (1119, &[185, 71, 171, 201, 726]),
            (
                100,
                &[30, 2, 3, 98, 44, 82, 79, 61, 78, 59, 19, 11, 23, 14, 1, 64, 62, 31, 8, 69, 90, 81, 76, 88, 65, 74],
            ),
            (85, &[5, 34, 71, 8, 38, 61]),
            (86, &[45, 34, 31, 83, 25, 58]),
            (1, &[0]),
            (5, &[4, 0, 3, 1, 2]),
            (40000, &[30987, 24729, 10951, 3550, 4996, 38504, 32543, 10748, 4936, 36525, 14096]),
        ];
        for (population, sample) in expected {
            assert_eq!(random.sample(*population, sample.len()).as_deref(), Some(*sample), "{population}");
        }
        assert_eq!(random.sample(3, 4), None);
    }

    #[test]
    fn shuffles_are_those_of_cpython() {
        let mut random = PythonRandom::new(0);
        let mut numbers: Vec<usize> = (0..10).collect();
        random.shuffle(&mut numbers);
        assert_eq!(numbers, [7, 8, 1, 5, 3, 4, 2, 0, 9, 6]);
        let mut letters = ['a', 'b', 'c', 'd'];
        random.shuffle(&mut letters);
        assert_eq!(letters, ['b', 'a', 'd', 'c']);
    }
}
