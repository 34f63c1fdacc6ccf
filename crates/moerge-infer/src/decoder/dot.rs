//! The dot product of two f32 vectors, summed in lanes so that it compiles to SIMD instructions.

#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;

/// Independent partial sums.
const LANES: usize = 16;

/// AVX2, if this processor has it.
#[cfg(target_arch = "x86_64")]
pub(super) fn avx2() -> Option<V3> {
    // The operating system must support it too, which pulp does not check.
    if is_x86_feature_detected!("avx2") { V3::try_new() } else { None }
}

/// Calls `work` compiled for AVX2 if [`avx2`] finds it. Everything that `work` calls must be `#[inline(always)]`.
#[inline(always)]
pub(super) fn vectorised<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = avx2() {
        return simd.vectorize(work);
    }
    work()
}

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
