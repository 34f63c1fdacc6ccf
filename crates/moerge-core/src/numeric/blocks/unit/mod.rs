//! What computes eight numbers at once: plain loops, or AVX2.
//!
//! Every operation is that of one number, eight times: both units give the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;

use super::scalar::{MAGIC, MANTISSA, UNIT, low_byte};

/// Groups of weights side by side.
pub(super) const LANES: usize = 8;

/// Operations on eight numbers, and on eight conditions.
pub(super) trait Unit: Copy {
    type Floats: Copy;
    type Mask: Copy;

    fn load(self, x: &[f32; LANES]) -> Self::Floats;
    fn store(self, x: Self::Floats) -> [f32; LANES];
    fn holds(self, mask: Self::Mask) -> [bool; LANES];

    fn add(self, x: Self::Floats, y: Self::Floats) -> Self::Floats;
    fn sub(self, x: Self::Floats, y: Self::Floats) -> Self::Floats;
    fn mul(self, x: Self::Floats, y: Self::Floats) -> Self::Floats;
    fn div(self, x: Self::Floats, y: Self::Floats) -> Self::Floats;
    fn neg(self, x: Self::Floats) -> Self::Floats;
    fn abs(self, x: Self::Floats) -> Self::Floats;
    /// `y` where it is smaller than `x`, else `x`.
    fn or_smaller(self, x: Self::Floats, y: Self::Floats) -> Self::Floats;
    /// `y` where it is larger than `x`, else `x`.
    fn or_larger(self, x: Self::Floats, y: Self::Floats) -> Self::Floats;
    /// [`super::scalar::nearest`], as a float.
    fn nearest(self, x: Self::Floats) -> Self::Floats;

    /// [`super::scalar::low_byte`] of each.
    fn low_bytes(self, x: Self::Floats) -> [u8; LANES];

    fn less(self, x: Self::Floats, y: Self::Floats) -> Self::Mask;
    fn equal(self, x: Self::Floats, y: Self::Floats) -> Self::Mask;
    fn and(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn not(self, a: Self::Mask) -> Self::Mask;
    fn any(self, a: Self::Mask) -> bool;
    fn select(self, mask: Self::Mask, yes: Self::Floats, no: Self::Floats) -> Self::Floats;
}

/// What a unit computes with.
pub(super) trait Work {
    type Output;

    /// Must be `#[inline(always)]`, and so must be all that it calls with a unit, closures too: only then do operations
    /// become instructions.
    fn run<U: Unit>(self, unit: U) -> Self::Output;
}

/// Runs `work` with the best unit of this processor.
pub(super) fn compute<W: Work>(work: W) -> W::Output {
    #[cfg(test)]
    if PLAIN.get() {
        return work.run(Plain);
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = crate::numeric::simd::avx2() {
        return avx2::run(simd, work);
    }
    work.run(Plain)
}

#[cfg(test)]
thread_local! {
    /// Whether this thread computes without the processor's vector units.
    pub(super) static PLAIN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Plain loops, for any processor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain;

#[inline(always)]
fn map<T: Copy, U: Copy + Default>(x: [T; LANES], f: impl Fn(T) -> U) -> [U; LANES] {
    let mut out = [U::default(); LANES];
    for (out, x) in out.iter_mut().zip(x) {
        *out = f(x);
    }
    out
}

#[inline(always)]
fn zip<T: Copy, U: Copy + Default>(x: [T; LANES], y: [T; LANES], f: impl Fn(T, T) -> U) -> [U; LANES] {
    let mut out = [U::default(); LANES];
    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
        *out = f(x, y);
    }
    out
}

impl Unit for Plain {
    type Floats = [f32; LANES];
    /// All bits or none.
    type Mask = [u32; LANES];

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::Floats {
        *x
    }

    #[inline(always)]
    fn store(self, x: Self::Floats) -> [f32; LANES] {
        x
    }

    #[inline(always)]
    fn holds(self, mask: Self::Mask) -> [bool; LANES] {
        map(mask, |mask| mask != 0)
    }

    #[inline(always)]
    fn add(self, x: Self::Floats, y: Self::Floats) -> Self::Floats {
        zip(x, y, |x, y| x + y)
    }

    #[inline(always)]
    fn sub(self, x: Self::Floats, y: Self::Floats) -> Self::Floats {
        zip(x, y, |x, y| x - y)
    }

    #[inline(always)]
    fn mul(self, x: Self::Floats, y: Self::Floats) -> Self::Floats {
        zip(x, y, |x, y| x * y)
    }

    #[inline(always)]
    fn div(self, x: Self::Floats, y: Self::Floats) -> Self::Floats {
        zip(x, y, |x, y| x / y)
    }

    #[inline(always)]
    fn neg(self, x: Self::Floats) -> Self::Floats {
        map(x, |x| -x)
    }

    #[inline(always)]
    fn abs(self, x: Self::Floats) -> Self::Floats {
        map(x, f32::abs)
    }

    #[inline(always)]
    fn or_smaller(self, x: Self::Floats, y: Self::Floats) -> Self::Floats {
        zip(x, y, |x, y| if y < x { y } else { x })
    }

    #[inline(always)]
    fn or_larger(self, x: Self::Floats, y: Self::Floats) -> Self::Floats {
        zip(x, y, |x, y| if y > x { y } else { x })
    }

    #[inline(always)]
    fn nearest(self, x: Self::Floats) -> Self::Floats {
        map(x, |x| f32::from_bits((x + MAGIC).to_bits() & MANTISSA | UNIT) - MAGIC)
    }

    #[inline(always)]
    fn low_bytes(self, x: Self::Floats) -> [u8; LANES] {
        map(x, low_byte)
    }

    #[inline(always)]
    fn less(self, x: Self::Floats, y: Self::Floats) -> Self::Mask {
        zip(x, y, |x, y| if x < y { u32::MAX } else { 0 })
    }

    #[inline(always)]
    fn equal(self, x: Self::Floats, y: Self::Floats) -> Self::Mask {
        zip(x, y, |x, y| if x == y { u32::MAX } else { 0 })
    }

    #[inline(always)]
    fn and(self, a: Self::Mask, b: Self::Mask) -> Self::Mask {
        zip(a, b, |a, b| a & b)
    }

    #[inline(always)]
    fn not(self, a: Self::Mask) -> Self::Mask {
        map(a, |a| !a)
    }

    #[inline(always)]
    fn any(self, a: Self::Mask) -> bool {
        a.iter().fold(0, |any, mask| any | mask) != 0
    }

    #[inline(always)]
    fn select(self, mask: Self::Mask, yes: Self::Floats, no: Self::Floats) -> Self::Floats {
        let mut out = no;
        for ((out, yes), mask) in out.iter_mut().zip(yes).zip(mask) {
            *out = f32::from_bits(yes.to_bits() & mask | out.to_bits() & !mask);
        }
        out
    }
}
