//! Conversions of single numbers, bit for bit as ggml's C code does them on x86-64.

use half::f16;

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
#[inline(always)]
pub(super) fn to_f16(x: f32) -> [u8; 2] {
    let nan = 0x7e00 | (x.to_bits() >> 16) as u16 & 0x8000;
    if x.is_nan() { nan } else { f16::from_f32(x).to_bits() }.to_le_bytes()
}

/// An f16 in f32. (`f16::to_f32` asks the processor what it can do, every time.)
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
    use super::*;

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
