//! Plain loops, compiled for AVX2 where the processor has it. No operation changes by that: results are the same bits.

/// Calls `work` compiled for AVX2, or as it is. Everything that `work` calls must be `#[inline(always)]`.
#[inline(always)]
pub fn vectorised<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = avx2() {
        return simd.vectorize(work);
    }
    work()
}

/// This processor's AVX2, if it has it.
#[cfg(target_arch = "x86_64")]
pub fn avx2() -> Option<pulp::x86::V3> {
    pulp::x86::V3::try_new()
}
