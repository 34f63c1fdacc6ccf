//! Products of a matrix with a few tokens. Every weight is read once, converted to f32 and multiplied with each token.

use pulp::{Arch, Simd, WithSimd};

/// Partial sums of an element. A constant, so that results do not depend on the width of the processor's vectors.
const LANES: usize = 16;
/// Tokens whose sums are in registers at once.
const TOKENS: usize = 4;

/// Writes the dot products of row `i` of `weights`, `[rows, columns]`, with each of `tokens`, `[tokens, columns]`, to the
/// first elements of row `i` of `out`, whose rows are `stride` apart. `widen` converts a weight; it must be
/// `#[inline(always)]`.
pub(super) fn dot_products<E: Copy>(
    weights: &[E],
    widen: impl Fn(E) -> f32 + Copy,
    columns: usize,
    tokens: &[f32],
    out: &mut [f32],
    stride: usize,
) {
    Arch::new().dispatch(DotProducts { weights, widen, columns, tokens, out, stride });
}

struct DotProducts<'a, E, W> {
    weights: &'a [E],
    widen: W,
    columns: usize,
    tokens: &'a [f32],
    out: &'a mut [f32],
    stride: usize,
}

impl<E: Copy, W: Fn(E) -> f32 + Copy> WithSimd for DotProducts<'_, E, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, { LANES / 16 }>(simd),
            8 => self.run::<S, { LANES / 8 }>(simd),
            4 => self.run::<S, { LANES / 4 }>(simd),
            _ => self.run::<S, LANES>(simd),
        }
    }
}

impl<E: Copy, W: Fn(E) -> f32 + Copy> DotProducts<'_, E, W> {
    /// With `VECTORS` vectors of partial sums for each token.
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(self, simd: S) {
        let Self { weights, widen, columns, tokens, out, stride } = self;
        for (row, out) in weights.chunks_exact(columns).zip(out.chunks_exact_mut(stride)) {
            let groups = tokens.chunks(columns * TOKENS).zip(out.chunks_mut(TOKENS));
            for (group, out) in groups {
                let token = |index: usize| &group[index * columns..][..columns];
                if group.len() == columns * TOKENS {
                    out.copy_from_slice(&dots::<S, E, VECTORS, TOKENS>(simd, row, widen, std::array::from_fn(token)));
                } else {
                    for (index, out) in out.iter_mut().enumerate().take(group.len() / columns) {
                        [*out] = dots::<S, E, VECTORS, 1>(simd, row, widen, [token(index)]);
                    }
                }
            }
        }
    }
}

/// `sum over i of row[i] * token[i]` for each of `tokens`, in a fixed order.
#[inline(always)]
fn dots<S: Simd, E: Copy, const VECTORS: usize, const TOKENS: usize>(
    simd: S,
    row: &[E],
    widen: impl Fn(E) -> f32 + Copy,
    tokens: [&[f32]; TOKENS],
) -> [f32; TOKENS] {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; TOKENS];
    let whole_tokens: [&[[f32; LANES]]; TOKENS] =
        std::array::from_fn(|token| &tokens[token].as_chunks::<LANES>().0[..whole.len()]);
    for index in 0..whole.len() {
        let mut weights = [0.0; LANES];
        for lane in 0..LANES {
            weights[lane] = widen(whole[index][lane]);
        }
        let weights = S::as_simd_f32s(&weights).0;
        for token in 0..TOKENS {
            let x = S::as_simd_f32s(&whole_tokens[token][index]).0;
            for vector in 0..VECTORS {
                sums[token][vector] = simd.mul_add_e_f32s(weights[vector], x[vector], sums[token][vector]);
            }
        }
    }
    let mut found = [0.0; TOKENS];
    for token in 0..TOKENS {
        let lanes = sums[token];
        let lanes: &[f32] = pulp::bytemuck::cast_slice(&lanes);
        found[token] = lanes.iter().sum();
        for (weight, x) in rest.iter().zip(&tokens[token][whole.len() * LANES..]) {
            found[token] += widen(*weight) * x;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_formula() {
        let number = |i: usize| ((i * 7919) % 1000) as f32 / 500.0 - 1.0;
        for (rows, columns, count) in [(3, 64, 1), (2, 70, 4), (5, 16, 7), (1, 9, 8), (2, 600, 5)] {
            let matrix: Vec<f32> = (0..rows * columns).map(number).collect();
            let tokens: Vec<f32> = (0..count * columns).map(|i| number(i + 5)).collect();
            let mut out = vec![9.0; rows * 8];
            dot_products(&matrix, |x| x, columns, &tokens, &mut out, 8);
            for (row, out) in matrix.chunks(columns).zip(out.chunks(8)) {
                for (token, found) in tokens.chunks(columns).zip(out) {
                    let expected: f64 = row.iter().zip(token).map(|(a, b)| f64::from(a * b)).sum();
                    assert!((f64::from(*found) - expected).abs() < 1e-4, "{found}, expected {expected}");
                }
                assert!(out[count..].iter().all(|other| *other == 9.0));
            }
        }
    }
}
