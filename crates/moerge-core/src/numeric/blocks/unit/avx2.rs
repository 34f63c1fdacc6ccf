//! Eight numbers in one register of AVX2.

use std::arch::x86_64::{__m256, _CMP_EQ_OQ, _CMP_LT_OQ};

use pulp::{NullaryFnOnce, cast, x86::V3};

use super::{LANES, Unit, Work};
use crate::numeric::blocks::scalar::{MAGIC, MANTISSA, UNIT};

/// Runs `work`, compiled for AVX2.
pub(super) fn run<W: Work>(simd: V3, work: W) -> W::Output {
    simd.vectorize(Compiled { simd, work })
}

struct Compiled<W> {
    simd: V3,
    work: W,
}

impl<W: Work> NullaryFnOnce for Compiled<W> {
    type Output = W::Output;

    #[inline(always)]
    fn call(self) -> W::Output {
        self.work.run(self.simd)
    }
}

/// The bit of the sign.
const SIGN: f32 = -0.0;

impl Unit for V3 {
    type Floats = __m256;
    /// All bits or none.
    type Mask = __m256;

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m256 {
        cast(*x)
    }

    #[inline(always)]
    fn store(self, x: __m256) -> [f32; LANES] {
        cast(x)
    }

    #[inline(always)]
    fn holds(self, mask: __m256) -> [bool; LANES] {
        let bits = self.avx._mm256_movemask_ps(mask);
        std::array::from_fn(|lane| bits >> lane & 1 != 0)
    }

    #[inline(always)]
    fn add(self, x: __m256, y: __m256) -> __m256 {
        self.avx._mm256_add_ps(x, y)
    }

    #[inline(always)]
    fn sub(self, x: __m256, y: __m256) -> __m256 {
        self.avx._mm256_sub_ps(x, y)
    }

    #[inline(always)]
    fn mul(self, x: __m256, y: __m256) -> __m256 {
        self.avx._mm256_mul_ps(x, y)
    }

    #[inline(always)]
    fn div(self, x: __m256, y: __m256) -> __m256 {
        self.avx._mm256_div_ps(x, y)
    }

    #[inline(always)]
    fn neg(self, x: __m256) -> __m256 {
        self.avx._mm256_xor_ps(x, self.avx._mm256_set1_ps(SIGN))
    }

    #[inline(always)]
    fn abs(self, x: __m256) -> __m256 {
        self.avx._mm256_andnot_ps(self.avx._mm256_set1_ps(SIGN), x)
    }

    // Of two numbers that do not compare, `min` and `max` give the second.
    #[inline(always)]
    fn or_smaller(self, x: __m256, y: __m256) -> __m256 {
        self.avx._mm256_min_ps(y, x)
    }

    #[inline(always)]
    fn or_larger(self, x: __m256, y: __m256) -> __m256 {
        self.avx._mm256_max_ps(y, x)
    }

    #[inline(always)]
    fn nearest(self, x: __m256) -> __m256 {
        let magic = self.avx._mm256_set1_ps(MAGIC);
        let mantissa = self.avx._mm256_set1_ps(f32::from_bits(MANTISSA));
        let unit = self.avx._mm256_set1_ps(f32::from_bits(UNIT));
        let bits = self.avx._mm256_and_ps(self.avx._mm256_add_ps(x, magic), mantissa);
        self.avx._mm256_sub_ps(self.avx._mm256_or_ps(bits, unit), magic)
    }

    #[inline(always)]
    fn low_bytes(self, x: __m256) -> [u8; LANES] {
        // Within each half of the register, the low bytes of four integers come first.
        const FIRST: [i8; 16] = [0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1];
        let order = self.avx2._mm256_broadcastsi128_si256(cast(FIRST));
        let bytes: [u64; 4] = cast(self.avx2._mm256_shuffle_epi8(self.avx._mm256_cvttps_epi32(x), order));
        (bytes[0] | bytes[2] << 32).to_le_bytes()
    }

    #[inline(always)]
    fn less(self, x: __m256, y: __m256) -> __m256 {
        self.avx._mm256_cmp_ps::<_CMP_LT_OQ>(x, y)
    }

    #[inline(always)]
    fn equal(self, x: __m256, y: __m256) -> __m256 {
        self.avx._mm256_cmp_ps::<_CMP_EQ_OQ>(x, y)
    }

    #[inline(always)]
    fn and(self, a: __m256, b: __m256) -> __m256 {
        self.avx._mm256_and_ps(a, b)
    }

    #[inline(always)]
    fn not(self, a: __m256) -> __m256 {
        self.avx._mm256_xor_ps(a, self.avx._mm256_set1_ps(f32::from_bits(u32::MAX)))
    }

    #[inline(always)]
    fn any(self, a: __m256) -> bool {
        self.avx._mm256_movemask_ps(a) != 0
    }

    #[inline(always)]
    fn select(self, mask: __m256, yes: __m256, no: __m256) -> __m256 {
        self.avx._mm256_blendv_ps(no, yes, mask)
    }
}
