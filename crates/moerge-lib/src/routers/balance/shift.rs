//! Computes the biases that give starved experts of a layer their share: pure arithmetic on scores.
//!
//! As in auxiliary-loss-free load balancing (Wang et al., arXiv 2408.15664; DeepSeek-V3), an expert with too little
//! load gets a bias. Standard routers have no biases, so the bias `b` becomes an addition `b a` to the row, where `a .
//! u` is about 1 for every router input `u`. Training raises the bias in small steps; here all tokens are known, so the
//! smallest sufficient bias is computed directly.

use crate::routers::fit::load;

/// The margin by which a raised score exceeds the one it must beat: more than rounding to f32 can lose.
const ABOVE: f64 = 1e-3;

/// Maximum number of shifts. Feeding one expert can starve another, which is then shifted too.
const ROUNDS: usize = 256;

/// The scores of a layer's router on some tokens.
pub(super) struct Layer<'a> {
    /// `[slot][token]`.
    pub scores: Vec<Vec<f64>>,
    /// Per token, `a . u`: how much a bias of 1 raises the score.
    pub along: Vec<f64>,
    /// The expert in each slot, numbered within the layer.
    pub of_slot: &'a [usize],
    /// Number of experts of the layer.
    pub experts: usize,
    /// Experts per token.
    pub top_k: usize,
    /// The target load of each expert as a fraction of an even share.
    pub share: f64,
}

impl Layer<'_> {
    /// The bias of each expert; 0 for those with enough load.
    pub fn biases(mut self) -> Vec<f64> {
        let mut biases = vec![0.0; self.experts];
        for _ in 0..ROUNDS {
            let loads = self.loads();
            let least = loads.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
            let Some((expert, _)) = least.filter(|(_, part)| **part < self.floor()) else { break };
            let Some(step) = self.step(expert) else { break };
            biases[expert] += step;
            for (row, _) in self.scores.iter_mut().zip(self.of_slot).filter(|(_, e)| **e == expert) {
                row.iter_mut().zip(&self.along).for_each(|(score, along)| *score += step * along);
            }
        }
        biases
    }

    /// The target load as a fraction of all choices.
    fn floor(&self) -> f64 {
        self.share / self.experts as f64
    }

    /// Each expert's fraction of all choices.
    fn loads(&self) -> Vec<f64> {
        let mut loads = vec![0.0; self.experts];
        load(&self.scores, self.top_k).iter().zip(self.of_slot).for_each(|(part, expert)| loads[*expert] += part);
        loads
    }

    /// The smallest increase of the bias of `expert` that gives it its share; `None` if no increase does.
    fn step(&self, expert: usize) -> Option<f64> {
        let tokens = self.along.len();
        let choices = tokens * self.top_k.min(self.scores.len());
        let wanted = (self.floor() * choices as f64).ceil() as usize;
        // For each choice that it could win, the increase that is needed.
        let mut rises: Vec<f64> = (0..tokens).flat_map(|token| self.rises(expert, token)).collect();
        rises.sort_by(f64::total_cmp);
        rises.get(wanted.checked_sub(1)?).map(|rise| (rise + ABOVE).max(ABOVE)).filter(|rise| rise.is_finite())
    }

    /// For each choice of a token that `expert` could win, the increase that is needed. Its first slot must beat the
    /// `top_k`th best score of the others, its second slot the one above that, and so on.
    fn rises(&self, expert: usize, token: usize) -> Vec<f64> {
        let along = self.along[token];
        let of = |own: bool| {
            let rows = self.scores.iter().zip(self.of_slot).filter(move |(_, e)| (**e == expert) == own);
            rows.map(|(row, _)| row[token])
        };
        let mut others: Vec<f64> = of(false).collect();
        others.sort_by(|a, b| b.total_cmp(a));
        let slots = of(true).count().min(self.top_k);
        let rise = |(slot, score): (usize, f64)| match others.get(self.top_k - slot - 1) {
            // Fewer others than choices: it is always chosen.
            None => f64::NEG_INFINITY,
            Some(_) if along <= 0.0 => f64::INFINITY,
            Some(other) => (other - score) / along,
        };
        of(true).take(slots).enumerate().map(rise).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: usize = 1000;

    /// Scores that vary by token around a different mean for each expert.
    fn layer<'a>(heights: &[f64], of_slot: &'a [usize], top_k: usize) -> Layer<'a> {
        let wave = |expert: usize, token: usize| ((token * (7 + 4 * expert) + 13 * expert) as f64 * 0.37).sin();
        let row = |expert: &usize| (0..TOKENS).map(|token| heights[*expert] + wave(*expert, token)).collect();
        let along = (0..TOKENS).map(|token| 1.0 + 0.2 * (token as f64 * 0.11).sin()).collect();
        Layer { scores: of_slot.iter().map(row).collect(), along, of_slot, experts: heights.len(), top_k, share: 0.5 }
    }

    /// The loads before and after the shift, with the biases.
    fn shifted(heights: &[f64], of_slot: &[usize], top_k: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let before = layer(heights, of_slot, top_k).loads();
        let biases = layer(heights, of_slot, top_k).biases();
        let mut after = layer(heights, of_slot, top_k);
        for (row, expert) in after.scores.iter_mut().zip(of_slot) {
            row.iter_mut().zip(&after.along).for_each(|(score, along)| *score += biases[*expert] * along);
        }
        (before, after.loads(), biases)
    }

    #[test]
    fn starved_experts_get_their_share_and_no_more() {
        for top_k in [1, 2] {
            let (before, after, biases) = shifted(&[0.0, 0.3, -6.0, -9.0], &[0, 1, 2, 3], top_k);
            assert!(before[3] < 0.01, "{before:?}");
            assert!(biases[3] > biases[2] && biases[2] > 0.0, "{biases:?}");
            for expert in [2, 3] {
                assert!((0.125..0.15).contains(&after[expert]), "{top_k} a token: {after:?}");
            }
            assert!((after.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn where_all_have_enough_nothing_is_shifted() {
        assert_eq!(shifted(&[0.0, 0.1, -0.1], &[0, 1, 2], 1).2, [0.0; 3]);
        assert_eq!(shifted(&[0.0, -90.0], &[0, 1], 2).2, [0.0; 2], "both are chosen always");
    }

    #[test]
    fn an_expert_in_two_slots_is_shifted_in_both() {
        let (before, after, biases) = shifted(&[-5.0, 0.0], &[0, 1, 0], 2);
        // Every token's second choice is its first slot: there are no others.
        assert_eq!((before, biases), (vec![0.5, 0.5], vec![0.0; 2]));
        assert_eq!(after, [0.5, 0.5]);
        let (before, after, biases) = shifted(&[0.0, -5.0], &[0, 1, 0], 2);
        assert!(before[1] < 0.01 && (0.25..0.27).contains(&after[1]) && biases[1] > 0.0, "{before:?} {after:?}");
    }
}
