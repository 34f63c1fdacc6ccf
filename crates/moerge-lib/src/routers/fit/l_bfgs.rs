//! Minimises a smooth convex function by L-BFGS (Liu and Nocedal 1989; Nocedal and Wright, algorithm 7.4).

use std::collections::VecDeque;

use super::conjugate_gradients::dot;

/// Number of past steps that approximate the Hessian.
const REMEMBERED: usize = 10;
/// A step must gain this fraction of what the slope predicts (Armijo).
const GAIN: f64 = 1e-4;
/// Maximum number of times a step is halved.
const HALVINGS: usize = 20;
/// Stop when the gradient is this fraction of the first one.
const TOLERANCE: f64 = 1e-9;

/// A function's value and gradient at a point.
pub(super) struct Slope {
    pub value: f64,
    pub gradient: Vec<f64>,
}

/// A step and the change of the gradient along it.
struct Curvature {
    step: Vec<f64>,
    change: Vec<f64>,
    /// Their dot product, positive.
    product: f64,
}

/// Takes at most `steps` steps from `x` towards the minimum of `function`.
pub(super) fn minimise(mut x: Vec<f64>, steps: usize, function: impl Fn(&[f64]) -> Slope) -> Vec<f64> {
    let mut here = function(&x);
    let small = TOLERANCE * norm(&here.gradient);
    let mut curvatures: VecDeque<Curvature> = VecDeque::new();
    for _ in 0..steps {
        if norm(&here.gradient) <= small {
            break;
        }
        let direction = downhill(&here.gradient, &curvatures);
        let slope = dot(&direction, &here.gradient);
        // Without curvature the scale is unknown, so the first step has length 1.
        let mut length = if curvatures.is_empty() { 1.0 / norm(&direction) } else { 1.0 };
        let mut halvings = 0;
        let (there, next) = loop {
            let there: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            let next = function(&there);
            if next.value <= here.value + GAIN * length * slope {
                break (there, next);
            }
            if halvings == HALVINGS {
                return x;
            }
            halvings += 1;
            length /= 2.0;
        };
        let difference = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
        let (step, change) = (difference(&there, &x), difference(&next.gradient, &here.gradient));
        let product = dot(&step, &change);
        if product > 0.0 {
            if curvatures.len() == REMEMBERED {
                curvatures.pop_front();
            }
            curvatures.push_back(Curvature { step, change, product });
        }
        (x, here) = (there, next);
    }
    x
}

/// Minus the gradient times the approximate inverse Hessian (the two-loop recursion).
fn downhill(gradient: &[f64], curvatures: &VecDeque<Curvature>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let add = |to: &mut [f64], by: f64, of: &[f64]| to.iter_mut().zip(of).for_each(|(x, y)| *x += by * y);
    let mut parts = Vec::with_capacity(curvatures.len());
    for c in curvatures.iter().rev() {
        let part = dot(&c.step, &direction) / c.product;
        add(&mut direction, -part, &c.change);
        parts.push(part);
    }
    if let Some(c) = curvatures.back() {
        let scale = c.product / dot(&c.change, &c.change);
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for (c, part) in curvatures.iter().zip(parts.into_iter().rev()) {
        let back = dot(&c.change, &direction) / c.product;
        add(&mut direction, part - back, &c.step);
    }
    direction
}

fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sum s_i (cosh(x_i - i) - 1)`, with scales from 1 to 1000.
    #[test]
    fn finds_the_minimum_of_a_stretched_valley() {
        let scale = |i: usize| 10f64.powi(i as i32 % 4);
        let function = |x: &[f64]| Slope {
            value: x.iter().enumerate().map(|(i, x)| scale(i) * ((x - i as f64).cosh() - 1.0)).sum(),
            gradient: x.iter().enumerate().map(|(i, x)| scale(i) * (x - i as f64).sinh()).collect(),
        };
        let found = minimise(vec![0.0; 8], 200, function);
        assert!(found.iter().enumerate().all(|(i, x)| (x - i as f64).abs() < 1e-4), "{found:?}");
    }

    #[test]
    fn stays_where_nothing_is_to_gain() {
        let flat = |x: &[f64]| Slope { value: 1.0, gradient: vec![0.0; x.len()] };
        assert_eq!(minimise(vec![3.0, 4.0], 10, flat), [3.0, 4.0]);
    }
}
