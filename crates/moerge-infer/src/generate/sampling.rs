//! Samples the next token from the model's logits, in the order of transformers: repetition penalty, temperature, then
//! top-k, top-p and min-p.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Sampling options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 always picks the most likely token.
    pub temperature: f32,
    /// Only the `top_k` most likely tokens; 0 for all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability; 1 for all.
    pub top_p: f32,
    /// Only tokens with at least this fraction of the most likely one's probability; 0 for all.
    pub min_p: f32,
    /// Divides positive logits of tokens that already occurred, and multiplies negative ones; 1 for no penalty (arXiv
    /// 1909.05858).
    pub repetition_penalty: f32,
    /// The same seed gives the same choices.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.7, top_k: 0, top_p: 0.95, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

/// Chooses the tokens of a sequence.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
}

impl Sampler {
    /// The sampler of sequence `sequence`; each sequence has its own random numbers.
    pub fn new(sampling: Sampling, sequence: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(sampling.seed);
        random.set_stream(sequence);
        Self { sampling, random }
    }

    /// The token after `previous`, chosen by its logits `scores` `[vocabulary]`; never one of `banned`.
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
        // Always draw a random number, so this choice does not shift later ones.
        let random = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        if temperature <= 0.0 {
            return best(&scores);
        }
        self.draw(&scores, random).unwrap_or_else(|| best(&scores))
    }

    /// The token at position `random` in `0..1` of the cumulative weights of the candidates, most likely first.
    fn draw(&self, scores: &[f32], random: f64) -> Option<u32> {
        let Sampling { top_p, min_p, .. } = self.sampling;
        let mut ranked = self.candidates(scores);
        let (mut kept, mut total) = (ranked.len(), ranked.weight());
        if top_p < 1.0 || min_p > 0.0 {
            let enough = if top_p < 1.0 { f64::from(top_p) * total } else { f64::INFINITY };
            (kept, total) = (0, 0.0);
            // The token that reaches the mark is included. The most likely one has weight 1, so `min_p` is a weight.
            while (kept == 0 || total < enough)
                && let Some((_, weight)) = ranked.get(kept).filter(|(_, weight)| *weight >= f64::from(min_p))
            {
                (kept, total) = (kept + 1, total + weight);
            }
        }
        let mut left = random * total;
        for index in 0..kept {
            let (token, weight) = ranked.get(index)?;
            left -= weight;
            if left < 0.0 {
                return Some(token);
            }
        }
        ranked.get(kept.checked_sub(1)?).map(|(token, _)| token)
    }

    /// The `top_k` most likely tokens with their weights, `exp((score - largest) / temperature)`.
    fn candidates(&self, scores: &[f32]) -> Ranked {
        let Sampling { temperature, top_k, .. } = self.sampling;
        let largest = scores.iter().fold(f32::NEG_INFINITY, |m, s| m.max(*s));
        let weight = |score: f32| (f64::from(score - largest) / f64::from(temperature)).exp();
        let mut scored: Vec<(u32, f32)> = (0..).zip(scores.iter().copied()).filter(|(_, s)| !s.is_nan()).collect();
        if (1..scored.len()).contains(&top_k) {
            scored.select_nth_unstable_by(top_k - 1, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            scored.truncate(top_k);
        }
        Ranked::new(scored.into_iter().map(|(token, score)| (token, weight(score))).filter(|k| k.1 > 0.0).collect())
    }
}

/// Tokens with their weights, sorted lazily: typically a few dozen of 50 000 are needed in order.
struct Ranked {
    tokens: Vec<(u32, f64)>,
    /// How many are sorted, most likely first. The others are less likely than all of these.
    sorted: usize,
}

/// Number of tokens sorted at first; doubled whenever more are needed.
const FIRST_SORTED: usize = 64;

impl Ranked {
    fn new(tokens: Vec<(u32, f64)>) -> Self {
        Self { tokens, sorted: 0 }
    }

    fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The sum of all weights.
    fn weight(&self) -> f64 {
        self.tokens.iter().map(|(_, weight)| weight).sum()
    }

    /// The token of rank `index` with its weight; ties go to the lower id.
    fn get(&mut self, index: usize) -> Option<(u32, f64)> {
        while index >= self.sorted && self.sorted < self.tokens.len() {
            let likelier = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
            let rest = &mut self.tokens[self.sorted..];
            let more = self.sorted.max(FIRST_SORTED).min(rest.len());
            if more < rest.len() {
                rest.select_nth_unstable_by(more - 1, likelier);
            }
            rest[..more].sort_unstable_by(likelier);
            self.sorted += more;
        }
        self.tokens.get(index).copied()
    }
}

/// The index of the maximum; the first of several.
fn best(scores: &[f32]) -> u32 {
    let better = |best: (u32, f32), this: (u32, f32)| if this.1 > best.1 { this } else { best };
    (0..).zip(scores.iter().copied()).fold((0, f32::NEG_INFINITY), better).0
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Sampling =
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 7 };

    /// The frequency of each of four tokens.
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

    /// The candidates by definition, with all tokens sorted; [`Sampler::draw`] is faster.
    fn kept(sampling: Sampling, scores: &[f32]) -> Vec<(u32, f64)> {
        let Sampling { temperature, top_k, top_p, min_p, .. } = sampling;
        let largest = scores.iter().fold(f32::NEG_INFINITY, |m, s| m.max(*s));
        let weight = |score: f32| (f64::from(score - largest) / f64::from(temperature)).exp();
        let mut kept: Vec<(u32, f64)> = (0..).zip(scores.iter().map(|s| weight(*s))).collect();
        kept.sort_by(|a, b| b.1.total_cmp(&a.1));
        kept.truncate(if top_k > 0 { top_k } else { kept.len() });
        let enough = f64::from(top_p) * kept.iter().map(|(_, weight)| weight).sum::<f64>();
        let mut sum = 0.0;
        let count = kept.iter().take_while(|(_, weight)| (sum < enough, sum += weight).0).count();
        kept.truncate(if top_p < 1.0 { count.max(1) } else { kept.len() });
        kept.retain(|(_, weight)| *weight >= f64::from(min_p));
        kept
    }

    #[test]
    fn what_is_not_looked_at_need_not_be_in_order() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        // Multiples of a quarter, so that there are many ties.
        let mut scores = |tokens: usize| -> Vec<f32> {
            (0..tokens)
                .map(|_| (random.next_u32() >> 8) as f32 / 2f32.powi(24) * 40.0)
                .map(|s| s.round() / 4.0)
                .collect()
        };
        let cases = [(0, 1.0, 0.0), (40, 1.0, 0.0), (0, 0.95, 0.0), (0, 0.0, 0.0), (0, 1.0, 0.05), (300, 0.9, 0.01)];
        for (top_k, top_p, min_p) in cases {
            for (temperature, tokens) in [(0.7, 3000), (5.0, 3000), (1.0, 20), (5.0, 65)] {
                let sampling = Sampling { temperature, top_k, top_p, min_p, repetition_penalty: 1.0, seed: 0 };
                let scores = scores(tokens);
                let kept = kept(sampling, &scores);
                let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
                let sampler = Sampler::new(sampling, 0);
                for place in (0..200).map(|i| (f64::from(i) + 0.37) / 200.0) {
                    let mut left = place * total;
                    let expected = kept.iter().find(|(_, weight)| (left -= weight, left < 0.0).1).unwrap().0;
                    assert_eq!(sampler.draw(&scores, place), Some(expected), "{sampling:?} at {place}");
                }
            }
        }
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
