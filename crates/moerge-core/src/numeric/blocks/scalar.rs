//! Conversions of single numbers, bit for bit as ggml's C code does them on x86-64.

/// Added to a number below 2^22 in magnitude, it leaves the nearest integer in the mantissa: 1.5 * 2^23.
pub(super) const MAGIC: f32 = 12_582_912.0;
/// The bits of a mantissa.
pub(super) const MANTISSA: u32 = 0x007f_ffff;
/// The exponent of numbers from 2^23 to 2^24, whose mantissa counts ones.
pub(super) const UNIT: u32 = 0x4b00_0000;

/// Below this, ggml takes the largest weight of a block for zero.
pub(super) const TINY: f32 = 1e-15;

/// The nearest integer, ties to even; of numbers out of range and NaN whatever the mantissa then holds (`nearest_int`).
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    ((x + MAGIC).to_bits() & MANTISSA) as i32 - 0x0040_0000
}

/// The low byte of the integer that `cvttss2si` makes of `x`: rounded towards zero, and 0 for what 32 bits cannot hold.
#[inline(always)]
pub(super) fn low_byte(x: f32) -> u8 {
    if x.abs() < 2_147_483_648.0 { x as i32 as u8 } else { 0 }
}

/// The bits of `x` in f16, rounded to nearest, ties to even. NaN loses its payload.
///
/// The sum with a power of two, 2^13 times the last place that is kept, rounds; that power is never below what an f16
/// without leading one needs. (M. Dukhan's `fp16_ieee_from_fp32_value`. `f16::from_f32` and `f16::to_f32` ask the
/// processor what it can do, every time.)
#[inline(always)]
pub(super) fn to_f16(x: f32) -> [u8; 2] {
    /// 2^112: what an f16 cannot hold becomes infinite.
    const TO_INFINITY: f32 = (1u128 << 112) as f32;
    /// 2^-110.
    const BACK: f32 = f32::from_bits((127 - 110) << 23);
    let bits = x.to_bits();
    let doubled = bits << 1;
    let exponent = (doubled & 0xff00_0000).max(0x7100_0000);
    let rounded = (f32::from_bits((exponent >> 1) + 0x0780_0000) + x.abs() * TO_INFINITY * BACK).to_bits();
    let finite = (rounded >> 13 & 0x7c00) + (rounded & 0x0fff);
    let magnitude = if doubled > 0xff00_0000 { 0x7e00 } else { finite };
    ((bits >> 16 & 0x8000 | magnitude) as u16).to_le_bytes()
}

/// An f16 in f32.
#[inline(always)]
pub(super) fn from_f16(bytes: [u8; 2]) -> f32 {
    // An f16's exponent counts from 2^-15, an f32's from 2^-127.
    const FROM_F16: f32 = (1u128 << 112) as f32;
    let half = u32::from(u16::from_le_bytes(bytes));
    let (sign, rest) = ((half & 0x8000) << 16, (half & 0x7fff) << 13);
    let finite = (f32::from_bits(rest) * FROM_F16).to_bits();
    let quiet = if half & 0x3ff == 0 { 0 } else { 0x0040_0000 };
    let magnitude = if half & 0x7c00 == 0x7c00 { rest | 0x7f80_0000 | quiet } else { finite };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    /// At every f16, halfway to the next, and beside both.
    #[test]
    fn numbers_are_rounded_as_the_library_rounds_them() {
        for half in 0..0x7c00u16 {
            let (low, high) = (f16::from_bits(half).to_f32(), f16::from_bits(half + 1).to_f32());
            let high = if high.is_infinite() { 65_536.0 } else { high };
            for near in [low, low + (high - low) / 2.0, high] {
                for bits in near.to_bits().saturating_sub(1)..=near.to_bits() + 1 {
                    for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                        assert_eq!(to_f16(x), f16::from_f32(x).to_le_bytes(), "{x:e}");
                    }
                }
            }
        }
        for x in [1e5, f32::MAX, f32::INFINITY, f32::MIN_POSITIVE, 1e-40, -1e-30] {
            assert_eq!(to_f16(x), f16::from_f32(x).to_le_bytes(), "{x:e}");
        }
    }

    #[test]
    fn every_f16_widens_as_the_library_widens_it_and_comes_back() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            let wide = from_f16(bits.to_le_bytes());
            if half.is_nan() {
                assert!(wide.is_nan() && wide.to_bits() & 0x0040_0000 != 0);
                assert_eq!(u16::from_le_bytes(to_f16(wide)), bits & 0x8000 | 0x7e00);
            } else {
                assert_eq!(wide.to_bits(), half.to_f32().to_bits());
                assert_eq!(u16::from_le_bytes(to_f16(wide)), bits);
            }
        }
    }

    #[test]
    fn integers_are_those_of_x86() {
        let table = [(2.5, 2), (3.5, 4), (-2.5, -2), (-0.6, -1), (4_194_303.0, 4_194_303), (f32::INFINITY, -4_194_304)];
        for (x, expected) in table {
            assert_eq!(nearest(x), expected, "{x}");
        }
        let table = [(3.9, 3), (-1.5, 255), (300.0, 44), (1e10, 0), (f32::NAN, 0), (f32::NEG_INFINITY, 0)];
        for (x, expected) in table {
            assert_eq!(low_byte(x), expected, "{x}");
        }
    }
}
