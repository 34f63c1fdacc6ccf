//! The exponential and the natural logarithm, to about 15 digits. They use no system math library, so all machines
//! agree on the last bit, and they are fast enough for loops over whole tensors.

use std::f64::consts::LOG2_E;

/// ln 2 in two parts; the first has few enough bits for exact products with small integers.
const LN_2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];

/// `1 / n!`
const FACTORIALS: [f64; 13] = {
    let mut inverse = [1.0; 13];
    let mut n = 1;
    while n < 13 {
        inverse[n] = inverse[n - 1] / n as f64;
        n += 1;
    }
    inverse
};

/// `e^x` for `x` up to 700; smaller values than -700 count as -700.
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    // Adding this rounds to an integer in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = x.max(-700.0);
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let rest = (x - n * LN_2[0]) - n * LN_2[1];
    let power = FACTORIALS.iter().rev().fold(0.0, |sum, factor| sum * rest + factor);
    power * f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52))
}

/// The natural logarithm of a positive normal number.
#[inline(always)]
pub fn ln(x: f64) -> f64 {
    /// The bits of the square root of 1/2.
    const SMALLEST: u64 = 0x3fe6_a09e_667f_3bcd;
    let exponent = (x.to_bits().wrapping_sub(SMALLEST) as i64) >> 52;
    let part = f64::from_bits(x.to_bits().wrapping_sub((exponent << 52) as u64));
    let z = (part - 1.0) / (part + 1.0);
    let square = z * z;
    let series = (0..11).rev().fold(0.0, |sum, n| sum * square + 2.0 / f64::from(2 * n + 1));
    let n = exponent as f64;
    n * LN_2[0] + (z * series + n * LN_2[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agree_with_libm() {
        for n in -70_000..=70_000 {
            let x = f64::from(n) * 0.009_87;
            assert!((exp(x) / libm::exp(x) - 1.0).abs() < 2e-15, "{x}");
            let (ours, theirs) = (ln(libm::exp(x)), libm::log(libm::exp(x)));
            assert!((ours - theirs).abs() <= 4e-16 * theirs.abs().max(1.0), "{x}: {ours} {theirs}");
            let x = 1.0 + f64::from(n) * 1e-7;
            assert!((ln(x) - libm::log(x)).abs() < 1e-17 + 1e-15 * libm::log(x).abs(), "{x}");
        }
        assert!(exp(-1e300) < 1e-300 && exp(f64::NEG_INFINITY) < 1e-300);
    }
}
