//! Reductions of f32 vectors in lanes, so that they compile to SIMD instructions.

#[cfg(target_arch = "x86_64")]
pub(super) use moerge_core::numeric::simd::avx2;
pub(super) use moerge_core::numeric::{simd::vectorised, sums::largest};

/// Independent partial sums.
const LANES: usize = 16;

/// `sum over i of a[i] * b[i]`, in a fixed order.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// The sum of `a`, in a fixed order.
#[inline(always)]
pub(super) fn sum(a: &[f32]) -> f32 {
    let (a, rest) = a.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for a in a {
        sums.iter_mut().zip(a).for_each(|(sum, a)| *sum += a);
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}
