//! Reductions in parallel lanes, so that the compiler can vectorise them, in the same order on every machine. Sums of f32
//! are in f64.

use super::simd::vectorised;

const LANES: usize = 8;

/// `sum a b`.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    vectorised(
        #[inline(always)]
        || plain_dot(a, b),
    )
}

/// `sum abs(a)`.
pub fn l1_norm(a: &[f32]) -> f64 {
    vectorised(
        #[inline(always)]
        || plain_l1_norm(a),
    )
}

/// `sum f(a, b)` over the elements of both.
#[inline(always)]
pub fn sum_of(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += f(a[lane], b[lane]);
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| f(*a, *b)).sum::<f64>()
}

/// The largest element of `a`; NaN is passed over.
#[inline(always)]
pub fn largest(a: &[f32]) -> f32 {
    let (a, rest) = a.as_chunks::<{ 2 * LANES }>();
    let mut largest = [f32::NEG_INFINITY; 2 * LANES];
    for a in a {
        largest.iter_mut().zip(a).for_each(|(largest, a)| *largest = largest.max(*a));
    }
    largest.iter().chain(rest).fold(f32::NEG_INFINITY, |largest, a| largest.max(*a))
}

#[inline(always)]
fn plain_dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += f64::from(a[lane]) * f64::from(b[lane]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    sums.iter().sum::<f64>() + rest
}

#[inline(always)]
fn plain_l1_norm(a: &[f32]) -> f64 {
    let mut sums = [0.0; LANES];
    let (a, rest) = a.as_chunks::<LANES>();
    for a in a {
        for lane in 0..LANES {
            sums[lane] += f64::from(a[lane].abs());
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|x| f64::from(x.abs())).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_counts_once() {
        for length in [0, 1, 7, 8, 9, 100] {
            let a: Vec<f32> = (0..length).map(|n| n as f32 - 3.0).collect();
            let b: Vec<f32> = (0..length).map(|n| 1.0 + n as f32).collect();
            assert_eq!(dot(&a, &b), a.iter().zip(&b).map(|(a, b)| f64::from(a * b)).sum::<f64>());
            assert_eq!(l1_norm(&a), a.iter().map(|x| f64::from(x.abs())).sum::<f64>());
            assert_eq!(largest(&a), a.last().copied().unwrap_or(f32::NEG_INFINITY));
        }
    }
}
