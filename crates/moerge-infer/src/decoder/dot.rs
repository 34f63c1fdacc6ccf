//! The inner product of two vectors of f32, in lanes so that it becomes vector instructions.

#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;

/// Sums kept side by side.
const LANES: usize = 16;

/// This processor's vector units, if it has AVX2.
#[cfg(target_arch = "x86_64")]
pub(super) fn avx2() -> Option<V3> {
    // The system must allow it as well, which pulp by itself does not ask.
    if is_x86_feature_detected!("avx2") { V3::try_new() } else { None }
}

/// Calls `work` compiled for what [`avx2`] finds, or as it is. What it calls must be `#[inline(always)]`.
#[inline(always)]
pub(super) fn vectorised<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = avx2() {
        return simd.vectorize(work);
    }
    work()
}

/// `sum over i of a[i] * b[i]`, always in the same order.
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
