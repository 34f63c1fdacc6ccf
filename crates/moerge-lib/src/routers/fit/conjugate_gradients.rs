//! Solves `A x = b` for a symmetric positive definite `A` by conjugate gradients with Jacobi's preconditioner (Golub and Van
//! Loan, section 11.5).
//!
//! The shrunk covariance of a router is well conditioned, so some dozens of products replace a factorisation at a
//! fraction of its cost. Sums run in a fixed order, so the result does not depend on the number of threads.

use rayon::prelude::*;

/// Stop when the residual is this fraction of the right-hand side.
const TOLERANCE: f64 = 1e-9;
/// Maximum number of steps, more than any covariance here has needed.
const MAX_STEPS: usize = 2000;

/// Solves for every right-hand side of `b`; `a` is `[n, n]`.
pub(super) fn solve(a: &[f64], b: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = b.first().map_or(0, Vec::len);
    let diagonal: Vec<f64> = (0..n).map(|i| a[i * n + i].max(f64::MIN_POSITIVE)).collect();
    let precondition = |r: &[f64]| r.iter().zip(&diagonal).map(|(r, d)| r / d).collect::<Vec<f64>>();
    let mut systems: Vec<System> = b.iter().map(|b| System::new(b, precondition(b))).collect();
    for _ in 0..MAX_STEPS {
        let mut open: Vec<&mut System> = systems.iter_mut().filter(|s| !s.solved()).collect();
        if open.is_empty() {
            break;
        }
        // One reading of the matrix serves all right-hand sides.
        let products: Vec<Vec<f64>> = {
            let directions: Vec<&[f64]> = open.iter().map(|s| &s.direction[..]).collect();
            a.par_chunks(n).map(|row| directions.iter().map(|d| dot(row, d)).collect()).collect()
        };
        for (index, system) in open.iter_mut().enumerate() {
            let product: Vec<f64> = products.iter().map(|p| p[index]).collect();
            system.step(&product, precondition);
        }
    }
    systems.into_iter().map(|s| s.x).collect()
}

struct System {
    x: Vec<f64>,
    residual: Vec<f64>,
    direction: Vec<f64>,
    /// Residual times preconditioned residual.
    rho: f64,
    small: f64,
}

impl System {
    fn new(b: &[f64], direction: Vec<f64>) -> Self {
        let small = TOLERANCE * TOLERANCE * dot(b, b);
        Self { x: vec![0.0; b.len()], residual: b.to_vec(), rho: dot(b, &direction), direction, small }
    }

    fn solved(&self) -> bool {
        dot(&self.residual, &self.residual) <= self.small
    }

    fn step(&mut self, product: &[f64], precondition: impl Fn(&[f64]) -> Vec<f64>) {
        let alpha = self.rho / dot(&self.direction, product).max(f64::MIN_POSITIVE);
        self.x.iter_mut().zip(&self.direction).for_each(|(x, d)| *x += alpha * d);
        self.residual.iter_mut().zip(product).for_each(|(r, p)| *r -= alpha * p);
        let z = precondition(&self.residual);
        let rho = dot(&self.residual, &z);
        let beta = rho / self.rho.max(f64::MIN_POSITIVE);
        self.rho = rho;
        self.direction.iter_mut().zip(&z).for_each(|(d, z)| *d = z + beta * *d);
    }
}

/// A dot product as several parallel sums, which the compiler can vectorise; always in the same order.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0f64; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_what_can_be_checked_by_multiplying() {
        let n = 37;
        // 1 on the diagonal grows to 1000; neighbours are coupled.
        let entry = |i: usize, j: usize| match i.abs_diff(j) {
            0 => 1.0 + 1000.0 * (i as f64 / n as f64).powi(4),
            1 => 0.4,
            _ => 0.0,
        };
        let a: Vec<f64> = (0..n * n).map(|k| entry(k / n, k % n)).collect();
        let b: Vec<Vec<f64>> = (0..3).map(|k| (0..n).map(|i| ((i * 7 + k * 3) % 11) as f64 - 5.0).collect()).collect();
        for (x, b) in solve(&a, &b).iter().zip(&b) {
            for (i, b) in b.iter().enumerate() {
                assert!((dot(&a[i * n..(i + 1) * n], x) - b).abs() < 1e-6);
            }
        }
        assert_eq!(solve(&a, &[vec![0.0; n]]), [vec![0.0; n]]);
    }
}
