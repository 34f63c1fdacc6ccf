//! Choosing the next token from the model's scores, as transformers' generation does: repetition penalty, temperature,
//! then top-k, top-p and min-p.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the scores; 0 takes the most likely token always.
    pub temperature: f32,
    /// Only the `top_k` most likely tokens; 0 for all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability; 1 for all.
    pub top_p: f32,
    /// Only tokens with at least this share of the most likely one's probability; 0 for all.
    pub min_p: f32,
    /// Divides positive scores of tokens that were there already, and multiplies negative ones; 1 for none
    /// (arXiv 1909.05858).
    pub repetition_penalty: f32,
    /// The same seed, the same choices.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.7, top_k: 0, top_p: 0.95, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

/// Chooses tokens, one after the other.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
}

impl Sampler {
    /// The sampler of sequence `sequence`: each has random numbers of its own.
    pub fn new(sampling: Sampling, sequence: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(sampling.seed);
        random.set_stream(sequence);
        Self { sampling, random }
    }

    /// The next token after `previous`, by its `scores` `[vocabulary]`; never one of `banned`.
    pub fn choose(&mut self, mut scores: Vec<f32>, previous: &[u32], banned: &[u32]) -> u32 {
        let Sampling { temperature, repetition_penalty, .. } = self.sampling;
        if repetition_penalty != 1.0 {
            let mut seen = previous.to_vec();
            seen.sort_unstable();
            seen.dedup();
            for token in seen {
                if let Some(score) = scores.get_mut(token as usize) {
                    *score = if *score > 0.0 { *score / repetition_penalty } else { *score * repetition_penalty };
                }
            }
        }
        for token in banned {
            if let Some(score) = scores.get_mut(*token as usize) {
                *score = f32::NEG_INFINITY;
            }
        }
        // The random number is taken in any case, so that what is chosen here does not move later choices.
        let random = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        if temperature <= 0.0 {
            return best(&scores);
        }
        let kept = self.kept(&scores);
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut left = random * total;
        for (token, weight) in &kept {
            left -= weight;
            if left < 0.0 {
                return *token;
            }
        }
        kept.last().map_or_else(|| best(&scores), |(token, _)| *token)
    }

    /// The tokens that may be chosen with their weights, the likeliest first.
    fn kept(&self, scores: &[f32]) -> Vec<(u32, f64)> {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        let largest = scores.iter().fold(f32::NEG_INFINITY, |m, s| m.max(*s));
        let weight = |score: f32| (f64::from(score - largest) / f64::from(temperature)).exp();
        let mut kept: Vec<(u32, f64)> = (0..).zip(scores.iter().map(|s| weight(*s))).filter(|k| k.1 > 0.0).collect();
        kept.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if top_k > 0 {
            kept.truncate(top_k);
        }
        if top_p < 1.0 {
            let enough = f64::from(top_p) * kept.iter().map(|(_, weight)| weight).sum::<f64>();
            let mut sum = 0.0;
            // The token that reaches the mark is kept, too.
            let count = kept.iter().take_while(|(_, weight)| (sum < enough, sum += weight).0).count();
            kept.truncate(count.max(1));
        }
        // The likeliest has weight 1.
        kept.retain(|(_, weight)| *weight >= f64::from(min_p));
        kept
    }
}

/// The first of the largest.
fn best(scores: &[f32]) -> u32 {
    let better = |best: (u32, f32), this: (u32, f32)| if this.1 > best.1 { this } else { best };
    (0..).zip(scores.iter().copied()).fold((0, f32::NEG_INFINITY), better).0
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Sampling =
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 7 };

    /// How often each token of four is chosen.
    fn shares(sampling: Sampling, banned: &[u32]) -> [f64; 4] {
        let scores: Vec<f32> = [0.5f32, 0.25, 0.2, 0.05].iter().map(|p| p.ln() + 3.0).collect();
        let mut sampler = Sampler::new(sampling, 0);
        let mut counts = [0.0; 4];
        for _ in 0..20_000 {
            counts[sampler.choose(scores.clone(), &[1], banned) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn near(found: [f64; 4], expected: [f64; 4]) {
        let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.015 && (b > 0.0 || *a == 0.0));
        assert!(close, "{found:?}, expected {expected:?}");
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        near(shares(PLAIN, &[]), [0.5, 0.25, 0.2, 0.05]);
        near(shares(Sampling { top_k: 2, ..PLAIN }, &[]), [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        near(shares(Sampling { top_p: 0.7, ..PLAIN }, &[]), [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        near(shares(Sampling { min_p: 0.3, ..PLAIN }, &[]), [0.5 / 0.95, 0.25 / 0.95, 0.2 / 0.95, 0.0]);
        near(shares(Sampling { temperature: 0.5, ..PLAIN }, &[]), [0.706, 0.1765, 0.113, 0.007]);
        near(shares(PLAIN, &[0]), [0.0, 0.5, 0.4, 0.1]);
        near(shares(Sampling { temperature: 0.0, ..PLAIN }, &[]), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_same_seed_chooses_the_same_and_sequences_differ() {
        let run = |seed, sequence| {
            let mut sampler = Sampler::new(Sampling { seed, ..PLAIN }, sequence);
            (0..50).map(|_| sampler.choose(vec![0.0; 100], &[], &[])).collect::<Vec<_>>()
        };
        assert_eq!(run(1, 0), run(1, 0));
        assert_ne!(run(1, 0), run(1, 1));
        assert_ne!(run(1, 0), run(2, 0));
    }

    #[test]
    fn repeated_tokens_are_less_likely_whatever_the_sign_of_their_score() {
        let sampling = Sampling { temperature: 0.0, repetition_penalty: 2.0, ..PLAIN };
        assert_eq!(Sampler::new(sampling, 0).choose(vec![3.0, 2.0], &[0, 0], &[]), 1);
        assert_eq!(Sampler::new(sampling, 0).choose(vec![-2.0, -3.0], &[0], &[]), 1);
    }

    #[test]
    fn scores_that_are_no_numbers_harm_nobody() {
        for scores in [vec![f32::NAN; 3], vec![f32::NEG_INFINITY; 3], vec![f32::INFINITY; 3], vec![]] {
            assert!(Sampler::new(PLAIN, 0).choose(scores, &[], &[]) < 3);
        }
    }
}
