//! Turns trained gates into the rows of a standard router.
//!
//! The score `LN(v) . LN(u) / sqrt(H)`, with LN without weights, divides by the standard deviation of `u`, which a matrix
//! cannot do. But `LN(v)` has mean 0, so `u` need not be centred, and the standard deviation is the same for all experts
//! of a token. With its mean `sigma` over the calibration tokens, the row `LN(v) / (sqrt(H) sigma)` ranks the experts of
//! every token as the score does, and its softmax differs by a temperature near 1 per token.

use crate::routers::fit::{LayerFit, Samples, Shape, fit, given};
use moerge_core::error::Result;
use moerge_infer::decoder::Activations;

/// Epsilon of LN, as in PyTorch.
const EPSILON: f64 = 1e-5;

/// The gates of all experts, `[expert][layer][hidden]`. An expert whose FFN equals the base's learns
/// nothing: its gate and its score are 0, so it is chosen where the scores of all others are negative.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedGates(pub Vec<Vec<Vec<f32>>>);

impl TrainedGates {
    /// The router of `layer`, with one row per member, and its performance on held-out tokens. A shared expert gets the
    /// same row as under `gate_mode: calibrated`.
    pub(in crate::routers) fn layer(
        &self,
        layer: usize,
        members: &[usize],
        u: &Activations,
        samples: &Samples,
        shape: Shape,
    ) -> Result<LayerFit> {
        let labelled = samples.classes.iter().enumerate().filter(|(_, class)| class.is_some());
        let divisor = (u.features() as f64).sqrt() * deviation(u, labelled.map(|(column, _)| column));
        let vectors =
            members.iter().map(|e| self.0.get(*e).and_then(|layers| layers.get(layer)).map_or(&[][..], Vec::as_slice));
        let gate = vectors.flat_map(normed).map(|w| (w / divisor) as f32).collect();
        let shared_gate = if shape.shared { fit(u, samples, shape)?.shared_gate } else { None };
        Ok(LayerFit { shared_gate, ..given(gate, divisor, u, samples, shape) })
    }
}

/// LN without weights.
fn normed(v: &[f32]) -> Vec<f64> {
    let (mean, variance) = moments(v.iter().copied());
    v.iter().map(|x| (f64::from(*x) - mean) / (variance + EPSILON).sqrt()).collect()
}

/// The standard deviation of the features, averaged over the tokens `columns`.
fn deviation(u: &Activations, columns: impl Iterator<Item = usize>) -> f64 {
    let (mut sum, mut tokens) = (0.0, 0usize);
    for column in columns {
        sum += (moments(u.token(column).into_iter()).1 + EPSILON).sqrt();
        tokens += 1;
    }
    if tokens == 0 { 1.0 } else { sum / tokens as f64 }
}

/// Mean and variance.
fn moments(values: impl ExactSizeIterator<Item = f32> + Clone) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.clone().map(f64::from).sum::<f64>() / count;
    (mean, values.map(|x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count)
}
