//! How a gate routes: scores, first choices, and the load of each expert.

use rayon::prelude::*;

use moerge_infer::decoder::Activations;

/// Scores `[row][token]`: `rows . u` for the tokens of these columns.
pub(in crate::routers) fn scores(rows: &[Vec<f64>], u: &Activations, columns: &[usize]) -> Vec<Vec<f64>> {
    let score = |row: &Vec<f64>| {
        let mut scores = vec![0.0; columns.len()];
        for (f, weight) in row.iter().enumerate() {
            let feature = u.feature(f);
            scores.iter_mut().zip(columns).for_each(|(sum, token)| *sum += weight * f64::from(feature[*token]));
        }
        scores
    };
    rows.par_iter().map(score).collect()
}

/// The experts of a token by descending score; ties go to the lower number.
pub(super) fn ranked(scores: &[Vec<f64>], token: usize) -> Vec<usize> {
    let mut experts: Vec<usize> = (0..scores.len()).collect();
    experts.sort_by(|a, b| scores[*b][token].total_cmp(&scores[*a][token]));
    experts
}

/// Whether the first choice of each token is its own expert, one of `labels`.
pub(super) fn right(scores: &[Vec<f64>], labels: &[usize]) -> Vec<bool> {
    labels.iter().enumerate().map(|(token, own)| ranked(scores, token).first() == Some(own)).collect()
}

/// For each expert, its fraction of all choices if every token chooses `top_k`.
pub(in crate::routers) fn load(scores: &[Vec<f64>], top_k: usize) -> Vec<f64> {
    let tokens = scores.first().map_or(0, Vec::len);
    let mut chosen = vec![0usize; scores.len()];
    for token in 0..tokens {
        ranked(scores, token).into_iter().take(top_k).for_each(|expert| chosen[expert] += 1);
    }
    let all = (tokens * top_k.min(scores.len())).max(1) as f64;
    chosen.into_iter().map(|n| n as f64 / all).collect()
}

/// Counts of tokens by their own expert and by the router's first choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::routers) struct Confusion(pub Vec<Vec<usize>>);

impl Confusion {
    pub fn new(experts: usize, scores: &[Vec<f64>], labels: &[usize]) -> Self {
        let mut counts = vec![vec![0; experts]; experts];
        for (token, label) in labels.iter().enumerate() {
            if let Some(first) = ranked(scores, token).first() {
                counts[*label][*first] += 1;
            }
        }
        Self(counts)
    }

    /// Each expert's row as fractions of its tokens; zeros if it has none.
    pub fn shares(&self) -> Vec<Vec<f64>> {
        let share = |row: &Vec<usize>| {
            let all = row.iter().sum::<usize>().max(1) as f64;
            row.iter().map(|n| *n as f64 / all).collect()
        };
        self.0.iter().map(share).collect()
    }

    /// The fraction of tokens whose own expert is the first choice, averaged over the experts that have tokens, so that
    /// one with much text does not dominate.
    pub fn accuracy(&self) -> f64 {
        let rows = self.0.iter().enumerate().filter(|(_, row)| row.iter().any(|n| *n > 0));
        let own: Vec<f64> = rows.map(|(e, row)| row[e] as f64 / row.iter().sum::<usize>() as f64).collect();
        own.iter().sum::<f64>() / own.len().max(1) as f64
    }
}
