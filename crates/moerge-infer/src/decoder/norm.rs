//! RMS norm (arXiv 1910.07467): `x / sqrt(mean(x^2) + eps) * weight`, the mean over a token's features.

use super::activations::Activations;

/// Normalizes every token; `weight` is `[features]`.
pub(super) fn rms_norm(x: &Activations, weight: &[f32], eps: f64) -> Activations {
    let mut y = x.clone();
    rms_norm_in_place(&mut y, weight, eps);
    y
}

/// Normalizes each group of `weight.len()` features of every token, for example each head, in place.
pub(super) fn rms_norm_in_place(x: &mut Activations, weight: &[f32], eps: f64) {
    let columns = x.columns();
    for group in x.values_mut().chunks_exact_mut((weight.len() * columns).max(1)) {
        let mut squares = vec![0.0f64; columns];
        for row in group.chunks_exact(columns) {
            squares.iter_mut().zip(row).for_each(|(s, x)| *s += f64::from(*x) * f64::from(*x));
        }
        let scales: Vec<f32> = squares.iter().map(|s| (1.0 / (s / weight.len() as f64 + eps).sqrt()) as f32).collect();
        for (row, weight) in group.chunks_exact_mut(columns).zip(weight) {
            row.iter_mut().zip(&scales).for_each(|(x, scale)| *x = weight * (*x * scale));
        }
    }
}
