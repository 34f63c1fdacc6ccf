//! Rows fitted without the held-out tokens, their loss on those, and the choice between several of them.

use super::{
    scores::scores,
    temperature::{losses, temperature},
};
use moerge_infer::decoder::Activations;

/// Standard errors by which regression has to beat the discriminant. On a few hundred self-written tokens, a smaller gain
/// was a loss on other text (examples/tiny).
const SURE: f64 = 2.0;

/// What following may cost on whole text, in nats per token and layer. Equal weights cost SmolLM2-135M 0.005 to 0.015 in most
/// layers, and examples/tiny, whose width is 128, 0.02 to 0.045.
const TOLERANCE: f64 = 0.015;

/// The held-out tokens of experts.
pub(super) struct HeldOut {
    pub columns: Vec<usize>,
    /// Their experts.
    pub labels: Vec<usize>,
    /// Whether their sequences change their expert.
    pub spliced: Vec<bool>,
}

/// Rows, and their loss on held-out tokens.
pub(super) struct Trial {
    /// The penalty of the regression; 0 for the discriminant.
    pub penalty: f64,
    /// The weight of spliced text.
    pub spliced_weight: f64,
    pub rows: Vec<Vec<f64>>,
    pub scores: Vec<Vec<f64>>,
    pub temperature: f64,
    /// Cross entropy of each held-out token at that temperature.
    losses: Vec<f64>,
    /// Its mean over whole and over spliced text.
    means: [f64; 2],
}

impl Trial {
    pub fn new(penalty: f64, spliced_weight: f64, rows: Vec<Vec<f64>>, u: &Activations, held_out: &HeldOut) -> Self {
        let scores = scores(&rows, u, &held_out.columns);
        let temperature = temperature(&scores, &held_out.labels);
        let losses: Vec<f64> = losses(&scores, &held_out.labels, 1.0 / temperature).collect();
        let mean = |spliced: bool| {
            let own = losses.iter().zip(&held_out.spliced).filter(|(_, s)| **s == spliced);
            let (sum, count) = own.fold((0.0, 0usize), |(sum, count), (loss, _)| (sum + loss, count + 1));
            sum / count.max(1) as f64
        };
        let means = [false, true].map(mean);
        Self { penalty, spliced_weight, rows, scores, temperature, losses, means }
    }

    /// Whether its loss is lower than `other`'s by more than [`SURE`] standard errors of the mean difference.
    pub fn surely_better_than(&self, other: &Self) -> bool {
        let gains: Vec<f64> = other.losses.iter().zip(&self.losses).map(|(other, own)| other - own).collect();
        let count = gains.len().max(1) as f64;
        let mean = gains.iter().sum::<f64>() / count;
        let variance = gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>() / count;
        mean > SURE * (variance / count).sqrt()
    }

    /// The rows divided by the temperature.
    pub fn calibrated(&self) -> Vec<Vec<f64>> {
        self.rows.iter().map(|row| row.iter().map(|w| w / self.temperature).collect()).collect()
    }

    /// This trial or one of `others`: the one with the lowest loss on spliced text among those whose loss on whole text is
    /// at most [`TOLERANCE`] above the lowest.
    pub fn or_better_spliced(self, others: Vec<Self>) -> Self {
        let least = others.iter().map(|trial| trial.means[0]).fold(self.means[0], f64::min);
        let allowed = |trial: &Self| trial.means[0] <= least + TOLERANCE;
        let better = |best: Self, next: Self| {
            let wins = allowed(&next) && (!allowed(&best) || next.means[1] < best.means[1]);
            if wins { next } else { best }
        };
        others.into_iter().fold(self, better)
    }
}
