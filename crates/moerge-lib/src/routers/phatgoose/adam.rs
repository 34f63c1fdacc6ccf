//! Adam (arXiv 1412.6980) as AdamW without weight decay: betas 0.9 and 0.999, epsilon 1e-8, the defaults of PyTorch.

const BETAS: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-8;

/// Running means of the gradients and of their squares.
pub(super) struct Adam {
    moments: Vec<(f64, f64)>,
    steps: i32,
}

impl Adam {
    pub fn new(parameters: usize) -> Self {
        Self { moments: vec![(0.0, 0.0); parameters], steps: 0 }
    }

    /// Updates `parameters` by their `gradients` with learning rate `rate`.
    pub fn step<'a>(
        &mut self,
        rate: f64,
        parameters: impl Iterator<Item = &'a mut f32>,
        gradients: impl Iterator<Item = &'a f32>,
    ) {
        self.steps += 1;
        // Bias correction, because the means begin at 0.
        let (first, second) = (1.0 - BETAS.0.powi(self.steps), 1.0 - BETAS.1.powi(self.steps));
        for ((x, gradient), (m, v)) in parameters.zip(gradients).zip(&mut self.moments) {
            let gradient = f64::from(*gradient);
            *m += (1.0 - BETAS.0) * (gradient - *m);
            *v += (1.0 - BETAS.1) * (gradient * gradient - *v);
            *x = (f64::from(*x) - rate * (*m / first) / ((*v / second).sqrt() + EPSILON)) as f32;
        }
    }
}
