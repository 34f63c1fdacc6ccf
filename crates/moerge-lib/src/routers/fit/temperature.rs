//! The temperature of a layer's softmax (Guo et al., arXiv 1706.04599): the one that maximises the likelihood of
//! the experts of held-out tokens.

/// Bound of the scale in both directions. If every token is routed correctly, the likelihood grows without limit as the
/// temperature falls.
const RANGE: f64 = 32.0;
/// Number of bisections; enough for four digits.
const STEPS: usize = 40;

/// The temperature that calibrates the softmax of the scores `[expert][token]` for the true experts `labels`; 1 without
/// labels or with a single expert.
pub(super) fn temperature(scores: &[Vec<f64>], labels: &[usize]) -> f64 {
    if labels.is_empty() || scores.len() < 2 {
        return 1.0;
    }
    // The loss is convex in the scale, so it is unimodal in its logarithm: golden-section search.
    let golden = (5.0f64.sqrt() - 1.0) / 2.0;
    let loss = |log: f64| loss(scores, labels, log.exp());
    let (mut low, mut high) = (-RANGE.ln(), RANGE.ln());
    let (mut a, mut b) = (high - golden * (high - low), low + golden * (high - low));
    let (mut loss_a, mut loss_b) = (loss(a), loss(b));
    for _ in 0..STEPS {
        if loss_a <= loss_b {
            (high, b, loss_b) = (b, a, loss_a);
            a = high - golden * (high - low);
            loss_a = loss(a);
        } else {
            (low, a, loss_a) = (a, b, loss_b);
            b = low + golden * (high - low);
            loss_b = loss(b);
        }
    }
    (-(low + high) / 2.0).exp()
}

/// Mean cross entropy of `softmax(scale * scores)`.
fn loss(scores: &[Vec<f64>], labels: &[usize], scale: f64) -> f64 {
    losses(scores, labels, scale).sum::<f64>() / labels.len() as f64
}

/// Cross entropy of `softmax(scale * scores)`, per token.
pub(super) fn losses(scores: &[Vec<f64>], labels: &[usize], scale: f64) -> impl Iterator<Item = f64> {
    labels.iter().enumerate().map(move |(token, label)| {
        let own = scores[*label][token];
        scores.iter().map(|row| ((row[token] - own) * scale).exp()).sum::<f64>().ln()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token in four goes to expert 1, whatever its scores, which are off by a factor.
    #[test]
    fn makes_the_softmax_as_sure_as_it_should_be() {
        for factor in [0.2, 1.0, 5.0] {
            let scores = vec![vec![factor * 3.0f64.ln(); 400], vec![0.0; 400]];
            let labels: Vec<usize> = (0..400).map(|t| usize::from(t % 4 == 0)).collect();
            let temperature = temperature(&scores, &labels);
            assert!((temperature - factor).abs() < 1e-3 * factor, "{factor} {temperature}");
        }
        assert_eq!(temperature(&[vec![], vec![]], &[]), 1.0);
    }
}
