//! Softmax of a row, and of many columns at once.

use std::ops::Range;

use super::{
    exp::exp,
    lanes::{largest, sum, vectorised},
};

/// `softmax(scale * row)` in place.
pub(super) fn softmax(row: &mut [f32], scale: f32) {
    vectorised(
        #[inline(always)]
        || {
            let largest = largest(row);
            row.iter_mut().for_each(|x| *x = exp((*x - largest) * scale));
            let inverse = 1.0 / sum(row);
            row.iter_mut().for_each(|x| *x *= inverse);
        },
    );
}

/// `softmax(scale * column)` of every column of `rows`, in place, over the rows that the column sees: those whose
/// `visible` range contains it. The others become 0. Every column must see a row.
pub(super) fn softmax_columns(rows: &mut [f32], columns: usize, scale: f32, visible: impl Fn(usize) -> Range<usize>) {
    vectorised(
        #[inline(always)]
        || {
            let mut largest = vec![f32::NEG_INFINITY; columns];
            for (index, row) in rows.chunks_exact(columns).enumerate() {
                let visible = visible(index);
                let largest = &mut largest[visible.clone()];
                largest.iter_mut().zip(&row[visible]).for_each(|(largest, x)| *largest = largest.max(*x));
            }
            let mut sums = vec![0.0f32; columns];
            for (index, row) in rows.chunks_exact_mut(columns).enumerate() {
                let visible = visible(index);
                row[..visible.start].fill(0.0);
                row[visible.end..].fill(0.0);
                let of_column = sums[visible.clone()].iter_mut().zip(&largest[visible.clone()]);
                for (x, (sum, largest)) in row[visible].iter_mut().zip(of_column) {
                    *x = exp((*x - largest) * scale);
                    *sum += *x;
                }
            }
            sums.iter_mut().for_each(|sum| *sum = 1.0 / *sum);
            for row in rows.chunks_exact_mut(columns) {
                row.iter_mut().zip(&sums).for_each(|(x, inverse)| *x *= inverse);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_rows_turned_over() {
        let (rows, columns) = (7, 5);
        let mut matrix: Vec<f32> = (0..rows * columns).map(|i| (i * 37 % 11) as f32 - 5.0).collect();
        let visible = |row: usize| row.saturating_sub(2).min(columns)..(row + 2).min(columns);
        let expected: Vec<Vec<f32>> = (0..columns)
            .map(|column| {
                let sees: Vec<usize> = (0..rows).filter(|row| visible(*row).contains(&column)).collect();
                let mut seen: Vec<f32> = sees.iter().map(|row| matrix[row * columns + column]).collect();
                softmax(&mut seen, 0.5);
                let mut all = vec![0.0; rows];
                sees.iter().zip(seen).for_each(|(row, x)| all[*row] = x);
                all
            })
            .collect();
        softmax_columns(&mut matrix, columns, 0.5, visible);
        for (index, found) in matrix.iter().enumerate() {
            let expected = expected[index % columns][index / columns];
            assert!((found - expected).abs() < 1e-6, "{index}: {found}, expected {expected}");
        }
        let mut even = vec![3.0; 40];
        softmax(&mut even, 2.0);
        assert!(even.iter().all(|x| (x - 0.025).abs() < 1e-8));
    }
}
