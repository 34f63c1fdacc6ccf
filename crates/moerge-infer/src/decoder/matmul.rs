//! f32 matrix products.
//!
//! The right operand is packed once into [`Panels`]; rows of the left one are copied, or converted from their stored
//! format, into a block that stays in a core's cache ([`multiply`]). Every element of a product is summed in the same
//! order: its bits depend neither on the other rows and columns, nor on the number of threads, nor on the width of the
//! processor's vectors, if it has fused multiply-adds. Products with a few tokens ([`super::few_tokens`]) sum in another
//! order.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::activations::Activations;

/// Terms of an element that are summed before they are added to the result. The block of the left operand and a panel of
/// this depth fit into a core's caches.
const DEPTH: usize = 256;
/// Rows of the left operand per block, a multiple of the height of every [`tile`].
const ROWS: usize = 120;
/// Bytes of memory that a product takes for each thread.
pub const MATMUL_BYTES: usize = ROWS * DEPTH * size_of::<f32>();
/// Vectors per row of a panel.
const VECTORS: usize = 2;
/// Rows of a task are a multiple of this, which is a multiple of the height of every [`tile`].
pub(super) const TILES: usize = 24;
/// Columns of the widest panel.
pub(super) const PANEL_COLUMNS: usize = 16 * VECTORS;
/// Multiplications per task of [`matmul`], at least.
const TASK: usize = 8 << 20;

/// The right operand of a product, `[inner, columns]`, in panels of a few vectors' columns: `[panel, inner, column]`.
/// The last panel is padded with zeros.
pub struct Panels {
    inner: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Panels {
    /// From the columns `columns` of the rows `rows` of `x`.
    pub(super) fn of(x: &Activations, rows: Range<usize>, columns: Range<usize>) -> Self {
        let row = |index: usize| &x.values()[(rows.start + index) * x.columns()..][columns.clone()];
        Self::pack(rows.len(), columns.len(), row)
    }

    /// From `values` in row-major order.
    pub fn from_rows(values: &[f32], columns: usize) -> Self {
        Self::pack(values.len() / columns.max(1), columns, |index| &values[index * columns..][..columns])
    }

    fn pack<'a>(inner: usize, columns: usize, row: impl Fn(usize) -> &'a [f32]) -> Self {
        let width = VECTORS * lanes();
        let mut values = vec![0.0; columns.next_multiple_of(width) * inner];
        for index in 0..inner {
            for (panel, part) in row(index).chunks(width).enumerate() {
                values[(panel * inner + index) * width..][..part.len()].copy_from_slice(part);
            }
        }
        Self { inner, columns, values }
    }
}

/// Writes the product of a left operand of `rows` rows with `right` to `out`, whose rows are `stride` apart.
///
/// `read` fills a slice with the given columns of a row of the left operand. The columns begin at a multiple of 256.
pub(super) fn multiply(
    rows: usize,
    read: impl Fn(usize, Range<usize>, &mut [f32]),
    right: &Panels,
    out: &mut [f32],
    stride: usize,
) {
    Arch::new().dispatch(Product { rows, read, right, out, stride });
}

/// `left right` in row-major order, on several threads. `left` is in row-major order as well, and has columns.
pub fn matmul(left: &[f32], right: &Panels) -> Vec<f32> {
    let (inner, columns) = (right.inner.max(1), right.columns.max(1));
    let mut product = vec![0.0; left.len() / inner * right.columns];
    let rows = (TASK / (inner * columns)).max(1).next_multiple_of(TILES);
    product.par_chunks_mut(rows * columns).zip(left.par_chunks(rows * inner)).for_each(|(out, left)| {
        let read = |row: usize, part: Range<usize>, to: &mut [f32]| {
            to.copy_from_slice(&left[row * inner..][part]);
        };
        multiply(left.len() / inner, read, right, out, columns);
    });
    product
}

struct Product<'a, F> {
    rows: usize,
    read: F,
    right: &'a Panels,
    out: &'a mut [f32],
    stride: usize,
}

impl<F: Fn(usize, Range<usize>, &mut [f32])> WithSimd for Product<'_, F> {
    type Output = ();

    /// Chooses the tile that fits the vector registers: 32 of AVX-512, 16 of AVX2, 32 of NEON.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 12>(simd),
            8 => self.run::<S, 6>(simd),
            4 => self.run::<S, 8>(simd),
            _ => self.run::<S, 4>(simd),
        }
    }
}

impl<F: Fn(usize, Range<usize>, &mut [f32])> Product<'_, F> {
    /// In tiles of `HEIGHT` rows.
    #[inline(always)]
    fn run<S: Simd, const HEIGHT: usize>(self, simd: S) {
        let Self { rows, read, right, out, stride } = self;
        let (inner, width) = (right.inner, VECTORS * S::F32_LANES);
        let mut block = vec![0.0; rows.min(ROWS).next_multiple_of(HEIGHT) * inner.min(DEPTH)];
        for first in (0..rows).step_by(ROWS) {
            let rows = ROWS.min(rows - first);
            for start in (0..inner).step_by(DEPTH) {
                let depth = DEPTH.min(inner - start);
                for (row, part) in block.chunks_exact_mut(depth).take(rows).enumerate() {
                    read(first + row, start..start + depth, part);
                }
                for (column, panel) in (0..right.columns).step_by(width).zip(right.values.chunks_exact(inner * width)) {
                    let panel = S::as_simd_f32s(&panel[start * width..][..depth * width]).0;
                    let columns = width.min(right.columns - column);
                    for (row, left) in (0..rows).step_by(HEIGHT).zip(block.chunks_exact(depth * HEIGHT)) {
                        let to = &mut out[(first + row) * stride + column..];
                        let place = Place { rows: HEIGHT.min(rows - row), columns, stride, add: start > 0 };
                        if columns > S::F32_LANES {
                            tile::<S, HEIGHT, VECTORS>(simd, left, panel, to, place);
                        } else {
                            tile::<S, HEIGHT, 1>(simd, left, panel, to, place);
                        }
                    }
                }
            }
        }
    }
}

/// What a tile writes: `rows` rows of `columns`, `stride` apart, added to what is there or in place of it.
#[derive(Clone, Copy)]
struct Place {
    rows: usize,
    columns: usize,
    stride: usize,
    add: bool,
}

/// The product of `HEIGHT` rows of a block with the first `WIDTH` vectors of a panel, whose sums stay in registers.
#[inline(always)]
fn tile<S: Simd, const HEIGHT: usize, const WIDTH: usize>(
    simd: S,
    left: &[f32],
    panel: &[S::f32s],
    out: &mut [f32],
    place: Place,
) {
    let panel = panel.as_chunks::<VECTORS>().0;
    let depth = panel.len();
    let left: [&[f32]; HEIGHT] = std::array::from_fn(|row| &left[row * depth..][..depth]);
    let mut sums = [[simd.splat_f32s(0.0); WIDTH]; HEIGHT];
    for index in 0..depth {
        let right = &panel[index];
        for (sums, left) in sums.iter_mut().zip(&left) {
            let left = simd.splat_f32s(left[index]);
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_e_f32s(left, *right, *sum);
            }
        }
    }
    if place.rows == HEIGHT && place.columns == WIDTH * S::F32_LANES {
        for (row, sums) in sums.iter().enumerate() {
            let out = S::as_mut_simd_f32s(&mut out[row * place.stride..][..WIDTH * S::F32_LANES]).0;
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if place.add { simd.add_f32s(*out, *sum) } else { *sum };
            }
        }
    } else {
        // A copy, so that the sums above can stay in registers.
        let sums = std::array::from_fn::<_, HEIGHT, _>(|row| sums[row]);
        for (row, sums) in sums[..place.rows].iter().enumerate() {
            let sums: &[f32] = pulp::bytemuck::cast_slice(sums);
            for (out, sum) in out[row * place.stride..][..place.columns].iter_mut().zip(sums) {
                *out = if place.add { *out + sum } else { *sum };
            }
        }
    }
}

/// Values per vector of this processor.
fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    Arch::new().dispatch(Lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    #[test]
    fn products_are_those_of_the_formula() {
        for (rows, inner, columns) in
            [(1, 1, 1), (12, 256, 32), (13, 257, 33), (121, 600, 9), (250, 3, 70), (5, 512, 16), (0, 3, 4)]
        {
            let (left, right) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
            let found = matmul(&left, &Panels::from_rows(&right, columns));
            let element = |row: usize, column: usize| -> f64 {
                (0..inner).map(|i| f64::from(left[row * inner + i]) * f64::from(right[i * columns + column])).sum()
            };
            assert_eq!(found.len(), rows * columns);
            for (index, found) in found.iter().enumerate() {
                let expected = element(index / columns, index % columns);
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{rows} {inner} {columns}: {found} {expected}");
            }
        }
    }

    #[test]
    fn an_element_does_not_depend_on_its_neighbours() {
        let (rows, inner, columns) = (130, 300, 50);
        let (left, right) = (numbers(rows * inner, 3), numbers(inner * columns, 4));
        let whole = matmul(&left, &Panels::from_rows(&right, columns));
        let column: Vec<f32> = right.chunks(columns).map(|row| row[41]).collect();
        let row = 125;
        let alone = matmul(&left[row * inner..][..inner], &Panels::from_rows(&column, 1));
        assert_eq!(alone[0].to_bits(), whole[row * columns + 41].to_bits());
    }

    #[test]
    fn other_columns_of_the_output_stay() {
        let mut out = vec![7.0; 3 * 8];
        let read = |row: usize, part: Range<usize>, to: &mut [f32]| to.fill((row + part.len()) as f32);
        multiply(3, read, &Panels::from_rows(&[1.0; 2 * 5], 5), &mut out, 8);
        for (row, out) in out.chunks(8).enumerate() {
            assert_eq!((&out[..5], &out[5..]), (&[2.0 * (row + 2) as f32; 5][..], &[7.0; 3][..]));
        }
    }
}
