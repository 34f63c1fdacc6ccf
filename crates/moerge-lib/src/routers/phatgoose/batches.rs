//! Chooses the sequences of each training step: all if they are few, else batches, reshuffled each epoch.

use moerge_core::numeric::noise::uniform;
use moerge_infer::decoder::Text;

/// An endless series of batches.
pub(super) struct Batches<'a> {
    texts: &'a [Text],
    max: usize,
    seed: u64,
    rounds: usize,
    /// The rest of this epoch, the next sequence last.
    left: Vec<usize>,
}

impl<'a> Batches<'a> {
    /// Batches of at most `max` tokens, but at least one sequence.
    pub fn new(texts: &'a [Text], max: usize, seed: u64) -> Self {
        Self { texts, max, seed, rounds: 0, left: Vec::new() }
    }

    pub fn next(&mut self) -> Vec<Text> {
        if self.texts.iter().map(|t| t.tokens.len()).sum::<usize>() <= self.max {
            return self.texts.to_vec();
        }
        let mut batch: Vec<Text> = Vec::new();
        let mut tokens = 0;
        while let Some(text) = self.peek() {
            tokens += text.tokens.len();
            if tokens > self.max && !batch.is_empty() {
                break;
            }
            batch.push(text.clone());
            self.left.pop();
        }
        batch
    }

    fn peek(&mut self) -> Option<&'a Text> {
        if self.left.is_empty() {
            let places = uniform(self.texts.len(), self.seed, &format!("phatgoose round {}", self.rounds));
            self.rounds += 1;
            self.left = (0..self.texts.len()).collect();
            self.left.sort_by(|a, b| places[*a].total_cmp(&places[*b]));
        }
        self.texts.get(*self.left.last()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_its_turn_and_no_batch_is_too_large() {
        let text = |id: u32| Text { tokens: vec![id; 10], targets: vec![None; 10] };
        let texts: Vec<Text> = (0..7).map(text).collect();
        let ids = |batch: Vec<Text>| batch.iter().map(|t| t.tokens[0]).collect::<Vec<_>>();
        let all = |max: usize, seed: u64| -> Vec<Vec<u32>> {
            let mut batches = Batches::new(&texts, max, seed);
            (0..7).map(|_| ids(batches.next())).collect()
        };
        let some = all(25, 1);
        assert!(some.iter().all(|batch| batch.len() == 2), "{some:?}");
        for round in some.concat().chunks(7) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2, 3, 4, 5, 6]);
        }
        assert_eq!(all(25, 1), some);
        assert_ne!(all(25, 2), some);
        assert_eq!(all(70, 1)[3], [0, 1, 2, 3, 4, 5, 6], "all there is");
        assert!(all(3, 1).iter().all(|batch| batch.len() == 1), "at least one");
        assert!(Batches::new(&[], 3, 0).next().is_empty());
    }
}
