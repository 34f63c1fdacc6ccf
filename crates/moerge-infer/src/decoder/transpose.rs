//! Transposed copies of matrices.

/// The transpose of a matrix in row-major order.
pub fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns.max(1);
    transposed_rows(rows, columns, |index| &values[index * columns..][..columns])
}

/// The transpose of the matrix that has these rows, in row-major order.
pub(super) fn transposed_rows<'a>(rows: usize, columns: usize, row: impl Fn(usize) -> &'a [f32]) -> Vec<f32> {
    let mut transposed = vec![0.0; rows * columns];
    for index in 0..rows {
        for (column, value) in row(index).iter().enumerate() {
            transposed[column * rows + index] = *value;
        }
    }
    transposed
}
