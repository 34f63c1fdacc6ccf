//! RMS norm as in [`super::super::norm`], and its backward pass.
//!
//! `y = w x s` with `s = 1 / sqrt(mean(x^2) + eps)`, so `dx = s w dy - x s^3 mean(w dy x)`.

use super::product::Rows;

/// State that the backward pass needs.
pub(super) struct Norm {
    x: Rows,
    /// The scale of each normalized group of features.
    scales: Vec<f32>,
}

/// Normalizes groups of `weight.len()` features in place.
pub(super) fn rms_norm(x: &mut Rows, weight: &[f32], eps: f64) -> Norm {
    let before = x.clone();
    let width = weight.len().max(1);
    let mut scales = Vec::with_capacity(x.values.len() / width);
    for group in x.values.chunks_exact_mut(width) {
        let squares: f64 = group.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let scale = (1.0 / (squares / width as f64 + eps).sqrt()) as f32;
        group.iter_mut().zip(weight).for_each(|(x, w)| *x = w * (*x * scale));
        scales.push(scale);
    }
    Norm { x: before, scales }
}

impl Norm {
    /// The gradient with respect to the input, given that of the output.
    pub fn backward(&self, weight: &[f32], grad: &Rows) -> Rows {
        let mut below = grad.clone();
        let width = weight.len().max(1);
        let groups = below.values.chunks_exact_mut(width).zip(self.x.values.chunks_exact(width));
        for ((dx, x), scale) in groups.zip(&self.scales) {
            dx.iter_mut().zip(weight).for_each(|(dx, w)| *dx *= w);
            let along: f64 = dx.iter().zip(x).map(|(dx, x)| f64::from(*dx) * f64::from(*x)).sum();
            let along = (along / width as f64) as f32 * scale * scale;
            dx.iter_mut().zip(x).for_each(|(dx, x)| *dx = scale * (*dx - x * along));
        }
        below
    }
}
