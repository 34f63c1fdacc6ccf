//! Products of a matrix with a few tokens. Every row is converted to f32 once, in a core's first cache, and multiplied
//! with each token there.

use pulp::{Arch, Simd, WithSimd};

/// Partial sums of an element. A constant, so that results do not depend on the width of the processor's vectors.
const LANES: usize = 16;
/// Tokens whose sums are in registers at once.
const TOKENS: usize = 4;

/// Writes the dot products of row `i` with each of `tokens`, `[tokens, columns]`, to the first elements of row `i` of
/// `out`, whose rows are `stride` apart. `read` fills a slice with a row.
pub(super) fn dot_products(
    read: impl Fn(usize, &mut [f32]),
    columns: usize,
    tokens: &[f32],
    out: &mut [f32],
    stride: usize,
) {
    Arch::new().dispatch(DotProducts { read, columns, tokens, out, stride });
}

struct DotProducts<'a, F> {
    read: F,
    columns: usize,
    tokens: &'a [f32],
    out: &'a mut [f32],
    stride: usize,
}

impl<F: Fn(usize, &mut [f32])> WithSimd for DotProducts<'_, F> {
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

impl<F: Fn(usize, &mut [f32])> DotProducts<'_, F> {
    /// With `VECTORS` vectors of partial sums for each token.
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(self, simd: S) {
        let mut row = vec![0.0; self.columns];
        for (index, out) in self.out.chunks_exact_mut(self.stride).enumerate() {
            (self.read)(index, &mut row);
            let mut groups = self.tokens.chunks_exact(self.columns * TOKENS);
            let mut outs = out.chunks_exact_mut(TOKENS);
            for (tokens, out) in groups.by_ref().zip(outs.by_ref()) {
                let tokens = std::array::from_fn(|token| &tokens[token * self.columns..][..self.columns]);
                out.copy_from_slice(&dots::<S, VECTORS, TOKENS>(simd, &row, tokens));
            }
            for (token, out) in groups.remainder().chunks_exact(self.columns).zip(outs.into_remainder()) {
                [*out] = dots::<S, VECTORS, 1>(simd, &row, [token]);
            }
        }
    }
}

/// `sum over i of row[i] * token[i]` for each of `tokens`, in a fixed order.
#[inline(always)]
fn dots<S: Simd, const VECTORS: usize, const TOKENS: usize>(
    simd: S,
    row: &[f32],
    tokens: [&[f32]; TOKENS],
) -> [f32; TOKENS] {
    let (whole, rest) = row.as_chunks::<LANES>();
    let tokens = tokens.map(|token| {
        let (whole_token, rest) = token.as_chunks::<LANES>();
        (&whole_token[..whole.len()], rest)
    });
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; TOKENS];
    for (index, row) in whole.iter().enumerate() {
        let row = S::as_simd_f32s(row).0;
        for (sums, (token, _)) in sums.iter_mut().zip(&tokens) {
            let token = S::as_simd_f32s(&token[index]).0;
            for ((sum, row), token) in sums.iter_mut().zip(row).zip(token) {
                *sum = simd.mul_add_e_f32s(*row, *token, *sum);
            }
        }
    }
    std::array::from_fn(|index| {
        let sums = sums[index];
        let whole: f32 = pulp::bytemuck::cast_slice::<_, f32>(&sums).iter().sum();
        whole + rest.iter().zip(tokens[index].1).map(|(a, b)| a * b).sum::<f32>()
    })
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
            let read = |row: usize, to: &mut [f32]| to.copy_from_slice(&matrix[row * columns..][..columns]);
            dot_products(read, columns, &tokens, &mut out, 8);
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
