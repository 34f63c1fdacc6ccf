//! Means with their standard errors. Pure.

use serde::Serialize;

/// A number measured on a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Its value.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

impl Estimate {
    /// The mean of `sample`, with the standard deviation over the root of the size as its error; 0 for one value.
    pub fn mean(sample: impl Iterator<Item = f64> + Clone) -> Self {
        let count = sample.clone().count();
        if count == 0 {
            return Self { value: f64::NAN, error: f64::NAN };
        }
        let value = sample.clone().sum::<f64>() / count as f64;
        let squares: f64 = sample.map(|x| (x - value).powi(2)).sum();
        let error = if count > 1 { (squares / (count - 1) as f64 / count as f64).sqrt() } else { 0.0 };
        Self { value, error }
    }

    /// `exp` of it, with the error propagated to first order.
    pub fn exp(self) -> Self {
        Self { value: self.value.exp(), error: self.value.exp() * self.error }
    }
}

/// The geometric mean of independent estimates; `None` if there are none.
pub fn geometric_mean(estimates: &[Estimate]) -> Option<Estimate> {
    let count = estimates.len() as f64;
    let logarithm = Estimate {
        value: estimates.iter().map(|e| e.value.ln()).sum::<f64>() / count,
        error: estimates.iter().map(|e| (e.error / e.value).powi(2)).sum::<f64>().sqrt() / count,
    };
    (!estimates.is_empty()).then(|| logarithm.exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_have_the_error_of_their_sample() {
        let three = Estimate::mean([1.0, 2.0, 6.0].into_iter());
        assert_eq!(three.value, 3.0);
        assert!((three.error - (7.0f64 / 3.0).sqrt()).abs() < 1e-12);
        // The formula of the lm-evaluation-harness for accuracies: sqrt(p (1 - p) / (n - 1)).
        let half = Estimate::mean([1.0, 0.0, 1.0, 0.0].into_iter());
        assert!((half.error - (0.25f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(Estimate::mean([5.0].into_iter()), Estimate { value: 5.0, error: 0.0 });
    }

    #[test]
    fn geometric_means_weigh_ratios() {
        let of = |values: &[(f64, f64)]| {
            geometric_mean(
                &values.iter().map(|(value, error)| Estimate { value: *value, error: *error }).collect::<Vec<_>>(),
            )
        };
        let mean = of(&[(2.0, 0.2), (8.0, 0.8)]).unwrap();
        assert!(
            (mean.value - 4.0).abs() < 1e-12 && (mean.error - 4.0 * 0.02f64.sqrt() / 2.0).abs() < 1e-12,
            "{mean:?}"
        );
        assert_eq!(of(&[]), None);
    }
}
