//! llama.cpp's Q8_0 (`ggml-quants.c`): blocks of 32 8-bit weights with one f16 scale, and their dot products with
//! activations that are rounded the same way.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m256i};

use half::f16;
#[cfg(target_arch = "x86_64")]
use pulp::{cast, x86::V3};

#[cfg(target_arch = "x86_64")]
use super::lanes::avx2;
use super::lanes::vectorised;

/// Weights per block.
pub(super) const BLOCK: usize = 32;

/// 32 weights, `scale * quants[i]`.
#[derive(Debug, Clone, PartialEq)]
#[repr(C)]
pub(super) struct Block {
    scale: f16,
    quants: [i8; BLOCK],
}

/// The activations of a token in blocks of 32.
pub(super) struct Rounded {
    scales: Vec<f32>,
    quants: Vec<[i8; BLOCK]>,
}

impl Block {
    pub(super) const ZERO: Self = Self { scale: f16::ZERO, quants: [0; BLOCK] };

    /// The scale, which is never negative, as f32. (`f16::to_f32` queries the processor's features on every call.)
    #[inline(always)]
    fn scale(&self) -> f32 {
        // The exponent bias is 15 in f16 and 127 in f32.
        const FROM_F16: f32 = (1u128 << 112) as f32;
        f32::from_bits(u32::from(self.scale.to_bits()) << 13) * FROM_F16
    }

    /// Quantises `weights`, a whole number of blocks.
    pub(super) fn round(weights: &[f32], blocks: &mut [Self]) {
        vectorised(
            #[inline(always)]
            || {
                for (weights, block) in weights.as_chunks().0.iter().zip(blocks) {
                    let (scale, quants) = rounded(weights);
                    *block = Self { scale: f16::from_f32(scale), quants };
                }
            },
        );
    }

    /// Converts `blocks` back to f32.
    pub(super) fn widen(blocks: &[Self], weights: &mut [f32]) {
        vectorised(
            #[inline(always)]
            || {
                for (block, weights) in blocks.iter().zip(weights.as_chunks_mut::<BLOCK>().0) {
                    let scale = block.scale();
                    weights.iter_mut().zip(block.quants).for_each(|(w, q)| *w = f32::from(q) * scale);
                }
            },
        );
    }
}

impl Rounded {
    pub(super) fn new(activations: &[f32]) -> Self {
        let (scales, quants) = vectorised(
            #[inline(always)]
            || activations.as_chunks().0.iter().map(rounded).unzip(),
        );
        Self { scales, quants }
    }
}

/// The dot product of every row in `rows` (row-major) with each of `tokens`. The products of a row are written to the
/// first of its `columns` elements of `out`.
pub(super) fn products(rows: &[Block], tokens: &[Rounded], out: &mut [f32], columns: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = avx2() {
        return simd.vectorize(
            #[inline(always)]
            || {
                by_rows(
                    rows,
                    tokens,
                    out,
                    columns,
                    #[inline(always)]
                    |w, x| dot_avx2(simd, w, x),
                );
            },
        );
    }
    by_rows(rows, tokens, out, columns, dot);
}

#[inline(always)]
fn by_rows(
    rows: &[Block],
    tokens: &[Rounded],
    out: &mut [f32],
    columns: usize,
    dot: impl Fn(&[Block], &Rounded) -> f32,
) {
    let blocks = tokens.first().map_or(0, |token| token.quants.len()).max(1);
    for (row, out) in rows.chunks_exact(blocks).zip(out.chunks_exact_mut(columns.max(1))) {
        tokens.iter().zip(out).for_each(|(token, out)| *out = dot(row, token));
    }
}

/// `sum over blocks b of w.scale[b] * x.scale[b] * sum over i of w[b][i] * x[b][i]`.
fn dot(w: &[Block], x: &Rounded) -> f32 {
    let block = |((w, x), scale): ((&Block, &[i8; BLOCK]), &f32)| {
        let sum: i32 = w.quants.iter().zip(x).map(|(w, x)| i32::from(i16::from(*w) * i16::from(*x))).sum();
        sum as f32 * (w.scale() * scale)
    };
    w.iter().zip(&x.quants).zip(&x.scales).map(block).sum()
}

/// The same with AVX2, whose byte product takes one unsigned operand: the signs are moved to the other one.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn dot_avx2(simd: V3, w: &[Block], x: &Rounded) -> f32 {
    let (avx, avx2) = (simd.avx, simd.avx2);
    let ones = avx._mm256_set1_epi16(1);
    let mut sums = avx._mm256_setzero_ps();
    for ((block, x), scale) in w.iter().zip(&x.quants).zip(&x.scales) {
        let (w, x): (__m256i, __m256i) = (cast(block.quants), cast(*x));
        // At most 2 * 127 * 127, which fits into 16 bits.
        let pairs = avx2._mm256_maddubs_epi16(avx2._mm256_sign_epi8(w, w), avx2._mm256_sign_epi8(x, w));
        let fours = avx._mm256_cvtepi32_ps(avx2._mm256_madd_epi16(pairs, ones));
        sums = simd.fma._mm256_fmadd_ps(avx._mm256_set1_ps(block.scale() * scale), fours, sums);
    }
    cast::<__m256, [f32; 8]>(sums).iter().sum()
}

/// The scale and quantised values of a block; the largest magnitude becomes 127.
#[inline(always)]
fn rounded(values: &[f32; BLOCK]) -> (f32, [i8; BLOCK]) {
    // Magnitudes compare like their bits.
    let largest = f32::from_bits(values.iter().fold(0, |m, x| m.max(x.to_bits() & 0x7fff_ffff)));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut quants = [0; BLOCK];
    quants.iter_mut().zip(values).for_each(|(q, x)| *q = (x * inverse).round() as i8);
    (scale, quants)
}

#[cfg(test)]
mod tests {
    use moerge_checkpoint::BlockType;

    use super::*;

    /// Pseudo-random numbers of all magnitudes, including zeros.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let random = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / 8_388_608.0 - 1.0;
        (0..count as u32).map(|i| if i % 7 == 0 { 0.0 } else { random(i) * random(i + 9).exp2() }).collect()
    }

    fn blocks(weights: &[f32]) -> Vec<Block> {
        let mut blocks = vec![Block::ZERO; weights.len() / BLOCK];
        Block::round(weights, &mut blocks);
        blocks
    }

    #[test]
    fn rounding_is_that_of_llama_cpp() {
        use moerge_core::numeric::blocks::{decode_row, encode_row};
        let mut weights = numbers(128, 5);
        weights[64..96].fill(0.0);
        let mut theirs = vec![0; 4 * 34];
        encode_row(BlockType::Q8_0, &weights, None, &mut theirs).unwrap();
        let (mut expected, mut found) = (vec![0.0; 128], vec![1.0; 128]);
        decode_row(BlockType::Q8_0, &theirs, &mut expected).unwrap();
        Block::widen(&blocks(&weights), &mut found);
        assert_eq!(found, expected);
    }

    #[test]
    fn scales_are_what_f16_says() {
        for bits in 0..0x7c00 {
            let scale = f16::from_bits(bits);
            assert_eq!(Block { scale, ..Block::ZERO }.scale(), scale.to_f32());
        }
    }

    #[test]
    fn products_are_those_of_the_rounded_values() {
        let (columns, rows) = (96, 5);
        let weights = blocks(&numbers(rows * columns, 1));
        let tokens = [numbers(columns, 2), numbers(columns, 3)];
        let rounded: Vec<Rounded> = tokens.iter().map(|token| Rounded::new(token)).collect();
        let mut out = vec![0.0; rows * 8];
        products(&weights, &rounded, &mut out, 8);
        let (mut w, mut x) = (vec![0.0; rows * columns], vec![0.0; columns]);
        Block::widen(&weights, &mut w);
        for (token, values) in tokens.iter().enumerate() {
            // Activations have f32 scales.
            for ((x, scale), quants) in x.chunks_mut(BLOCK).zip(&rounded[token].scales).zip(&rounded[token].quants) {
                x.iter_mut().zip(quants).for_each(|(x, q)| *x = scale * f32::from(*q));
            }
            assert!(x.iter().zip(values).all(|(x, value)| (x - value).abs() < 0.02));
            for (row, w) in w.chunks(columns).enumerate() {
                let expected: f64 = w.iter().zip(&x).map(|(w, x)| f64::from(w * x)).sum();
                for found in [out[row * 8 + token], dot(&weights[row * 3..][..3], &rounded[token])] {
                    assert!((f64::from(found) - expected).abs() < 1e-4, "{found}, expected {expected}");
                }
            }
        }
        assert!(out.chunks(8).all(|row| row[2..] == [0.0; 6]), "nobody else's places");
    }
}
