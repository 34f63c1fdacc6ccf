//! Counts NaN and infinities in the bytes of a tensor, without converting them.

use std::fmt;

use moerge_checkpoint::Dtype;

use super::simd::vectorised;

/// Counts of non-finite values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NonFinite {
    /// Number of NaN.
    pub nan: u64,
    /// Number of infinities.
    pub infinite: u64,
}

impl NonFinite {
    /// Whether there are any.
    pub fn any(self) -> bool {
        self.nan + self.infinite > 0
    }

    /// Counts those in `bytes`, whole elements of `dtype`.
    pub fn count(&mut self, dtype: Dtype, bytes: &[u8]) {
        match dtype {
            Dtype::BF16 => self.count_16(bytes, 0x7f80),
            Dtype::F16 => self.count_16(bytes, 0x7c00),
            Dtype::F32 => {
                for &value in bytes.as_chunks().0 {
                    let value = u32::from_le_bytes(value) & 0x7fff_ffff;
                    self.nan += u64::from(value > 0x7f80_0000);
                    self.infinite += u64::from(value == 0x7f80_0000);
                }
            }
            Dtype::F64 => {
                const INFINITY: u64 = 0x7ff0_0000_0000_0000;
                for &value in bytes.as_chunks().0 {
                    let value = u64::from_le_bytes(value) & (u64::MAX >> 1);
                    self.nan += u64::from(value > INFINITY);
                    self.infinite += u64::from(value == INFINITY);
                }
            }
            Dtype::F8_E5M2 => {
                for value in bytes.iter().map(|b| b & 0x7f) {
                    self.nan += u64::from(value > 0x7c);
                    self.infinite += u64::from(value == 0x7c);
                }
            }
            // These types have no infinity, and one bit pattern per sign for NaN.
            Dtype::F8_E4M3 => self.nan += bytes.iter().filter(|b| **b & 0x7f == 0x7f).count() as u64,
            Dtype::F8_E8M0 => self.nan += bytes.iter().filter(|b| **b == 0xff).count() as u64,
            Dtype::F8_E4M3FNUZ | Dtype::F8_E5M2FNUZ => {
                self.nan += bytes.iter().filter(|b| **b == 0x80).count() as u64;
            }
            _ => {}
        }
    }

    /// Adds those among `values`.
    pub fn count_values(&mut self, values: &[f32]) {
        self.nan += values.iter().filter(|value| value.is_nan()).count() as u64;
        self.infinite += values.iter().filter(|value| value.is_infinite()).count() as u64;
    }

    /// A 16-bit float is infinite if its bits without the sign equal `infinity`, and NaN if they are larger.
    fn count_16(&mut self, bytes: &[u8], infinity: u16) {
        // Signed numbers, which AVX2 compares.
        let infinity = infinity as i16;
        vectorised(
            #[inline(always)]
            || {
                for block in bytes.chunks(4096) {
                    // Narrow counters per short block let the compiler use full vectors.
                    let (mut nan, mut infinite) = (0u16, 0u16);
                    for &value in block.as_chunks().0 {
                        let value = i16::from_le_bytes(value) & i16::MAX;
                        nan += u16::from(value > infinity);
                        infinite += u16::from(value == infinity);
                    }
                    self.nan += u64::from(nan);
                    self.infinite += u64::from(infinite);
                }
            },
        );
    }
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.nan, self.infinite) {
            (nan, 0) => write!(f, "{nan} NaN"),
            (0, infinite) => write!(f, "{infinite} infinite values"),
            (nan, infinite) => write!(f, "{nan} NaN and {infinite} infinite values"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    fn count(dtype: Dtype, bytes: &[u8]) -> (u64, u64) {
        let mut counted = NonFinite::default();
        counted.count(dtype, bytes);
        (counted.nan, counted.infinite)
    }

    #[test]
    fn every_16_bit_pattern_as_half_sees_it() {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let of = |nan: fn(u16) -> bool, infinite: fn(u16) -> bool| {
            let counted = |test: fn(u16) -> bool| (0..=u16::MAX).filter(|b| test(*b)).count() as u64;
            (counted(nan), counted(infinite))
        };
        let halves = of(|b| f16::from_bits(b).is_nan(), |b| f16::from_bits(b).is_infinite());
        assert_eq!(count(Dtype::F16, &all), halves);
        let brains = of(|b| bf16::from_bits(b).is_nan(), |b| bf16::from_bits(b).is_infinite());
        assert_eq!(count(Dtype::BF16, &all), brains);
    }

    #[test]
    fn wider_and_narrower_floats() {
        let values = [f32::NAN, -f32::INFINITY, f32::MAX, -0.0, -f32::NAN];
        assert_eq!(count(Dtype::F32, &values.map(f32::to_le_bytes).concat()), (2, 1));
        assert_eq!(count(Dtype::F64, &values.map(|v| f64::from(v).to_le_bytes()).concat()), (2, 1));
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(count(Dtype::F8_E4M3, &all), (2, 0));
        assert_eq!(count(Dtype::F8_E5M2, &all), (6, 2));
        assert_eq!(count(Dtype::F8_E8M0, &all), (1, 0));
        assert_eq!(count(Dtype::U8, &all), (0, 0));
    }
}
