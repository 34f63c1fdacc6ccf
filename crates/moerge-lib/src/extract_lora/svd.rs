//! The best approximation of a matrix by two thin factors: its singular value decomposition, cut off.
//!
//! Small matrices are decomposed exactly. For large ones a random sketch finds the space of the largest singular values
//! (Halko, Martinsson and Tropp, arXiv 0909.4061: subspace iteration with oversampling); its random numbers depend on
//! the matrix's name only, so the result is the same on every run.

use faer::{Mat, MatRef};
use moerge_core::{
    error::{Error, Result},
    numeric::{noise::add_noise, sums},
};

/// Matrices whose shorter side is at most this are decomposed exactly.
const EXACT: usize = 384;
/// Columns of a sketch beyond the rank that is wanted.
const OVERSAMPLING: usize = 16;
/// Multiplications of a sketch by the matrix and its transpose.
const ITERATIONS: usize = 4;
/// The first rank that is tried where an energy is wanted.
const FIRST_RANK: usize = 32;

/// How many singular values are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Truncation {
    /// This many.
    Rank(usize),
    /// As few as keep this fraction of the energy (the sum of squares), but at most `max_rank`.
    Energy {
        /// Between 0 and 1.
        share: f64,
        /// The largest rank.
        max_rank: usize,
    },
}

/// `b a`, the approximation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Factors {
    /// The rank.
    pub rank: usize,
    /// `[rows, rank]`: `U sqrt(S)`.
    pub b: Vec<f32>,
    /// `[rank, columns]`: `sqrt(S) V^T`.
    pub a: Vec<f32>,
    /// The singular values that are kept, the largest first.
    pub singular_values: Vec<f64>,
    /// The fraction of the energy that they keep.
    pub energy: f64,
}

/// Factors of `matrix`, `[rows, columns]` of finite numbers, row after row; `None` where it is zero. `check` is called
/// before every long step.
///
/// # Errors
/// The decomposition does not converge, or those of `check`.
pub(super) fn factors(
    mut matrix: Vec<f32>,
    (rows, columns): (usize, usize),
    truncation: Truncation,
    name: &str,
    check: &dyn Fn() -> Result<()>,
) -> Result<Option<Factors>> {
    let largest = matrix.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    if largest == 0.0 {
        return Ok(None);
    }
    // A power of two brings the elements near 1, so that no square leaves the range of f32.
    let exponent = largest.log2().floor().clamp(-126.0, 126.0) as i32;
    let scale = f64::from(2.0f32.powi(exponent));
    let inverse = 2.0f32.powi(-exponent);
    matrix.iter_mut().for_each(|x| *x *= inverse);
    let total = sums::dot(&matrix, &matrix);
    let view = MatRef::from_row_major_slice(&matrix, rows, columns);
    let limit = rows.min(columns);
    let (found, rank) = match truncation {
        Truncation::Rank(rank) => {
            let rank = rank.min(limit);
            (top(view, rank, name, check)?, rank)
        }
        Truncation::Energy { share, max_rank } => {
            let most = max_rank.min(limit);
            let mut tried = FIRST_RANK.min(most);
            loop {
                let found = top(view, tried, name, check)?;
                let enough = (1..=tried).find(|rank| found.energy(*rank) >= share * total);
                match enough {
                    Some(rank) => break (found, rank),
                    None if tried == most => break (found, most),
                    None => tried = (2 * tried).min(most),
                }
            }
        }
    };
    let root: Vec<f64> = found.s[..rank].iter().map(|s| (s * scale).sqrt()).collect();
    let b = (0..rows).flat_map(|i| root.iter().enumerate().map(move |(j, root)| (i, j, *root)));
    let b = b.map(|(i, j, root)| (f64::from(found.u[(i, j)]) * root) as f32).collect();
    let a = root.iter().enumerate().flat_map(|(j, root)| (0..columns).map(move |i| (i, j, *root)));
    let a = a.map(|(i, j, root)| (f64::from(found.v[(i, j)]) * root) as f32).collect();
    let singular_values = found.s[..rank].iter().map(|s| s * scale).collect();
    Ok(Some(Factors { rank, b, a, singular_values, energy: (found.energy(rank) / total).min(1.0) }))
}

/// The largest singular values with their vectors.
struct Top {
    u: Mat<f32>,
    s: Vec<f64>,
    v: Mat<f32>,
}

impl Top {
    fn energy(&self, rank: usize) -> f64 {
        self.s[..rank].iter().map(|s| s * s).sum()
    }
}

/// At least the `rank` largest singular values of `matrix`.
fn top(matrix: MatRef<'_, f32>, rank: usize, name: &str, check: &dyn Fn() -> Result<()>) -> Result<Top> {
    let sketched = rank + OVERSAMPLING;
    let limit = matrix.nrows().min(matrix.ncols());
    check()?;
    if limit <= EXACT || 2 * sketched >= limit {
        return exact(matrix, name);
    }
    let mut random = vec![0.0f32; matrix.ncols() * sketched];
    add_noise(&mut random, 0, name, 0, 1.0);
    let mut space = (matrix * MatRef::from_row_major_slice(&random, matrix.ncols(), sketched)).qr().compute_thin_Q();
    for _ in 0..ITERATIONS {
        check()?;
        let other = (matrix.transpose() * &space).qr().compute_thin_Q();
        space = (matrix * other).qr().compute_thin_Q();
    }
    check()?;
    let small = space.transpose() * matrix;
    let Top { u, s, v } = exact(small.as_ref(), name)?;
    Ok(Top { u: space * u, s, v })
}

fn exact(matrix: MatRef<'_, f32>, name: &str) -> Result<Top> {
    let svd = matrix.thin_svd().map_err(|_| {
        Error::input(format!("{name}: the singular value decomposition of the difference does not converge"))
    })?;
    let s = svd.S().column_vector().iter().map(|s| f64::from(*s)).collect();
    Ok(Top { u: svd.U().to_owned(), s, v: svd.V().to_owned() })
}

/// Bytes that decomposing a matrix of this shape takes, the matrix included: an estimate from what is held at once.
pub(super) fn memory((rows, columns): (usize, usize), truncation: Truncation) -> u64 {
    let (limit, all) = (rows.min(columns) as u64, (rows * columns) as u64);
    let rank = match truncation {
        Truncation::Rank(rank) => rank,
        Truncation::Energy { max_rank, .. } => max_rank,
    };
    let sketched = (rank + OVERSAMPLING) as u64;
    let exact = limit <= EXACT as u64 || 2 * sketched >= limit;
    // An exact decomposition holds the matrix, its copy, both factors and room to work.
    let elements = if exact { 5 * all + 8 * limit * limit } else { all + 8 * sketched * (rows + columns) as u64 };
    4 * elements
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix of this rank, and the most that an element of its approximation is off.
    fn error(shape: (usize, usize), rank: usize, truncation: Truncation, scale: f32) -> (Factors, f32) {
        let (rows, columns) = shape;
        let (mut u, mut v) = (vec![0.0f32; rows * rank], vec![0.0f32; columns * rank]);
        add_noise(&mut u, 1, "u", 0, 1.0);
        add_noise(&mut v, 1, "v", 0, 1.0);
        let at = |i: usize, j: usize| (0..rank).map(|k| u[i * rank + k] * v[j * rank + k]).sum::<f32>() * scale;
        let matrix: Vec<f32> =
            (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| at(i, j)).collect();
        let found = factors(matrix.clone(), shape, truncation, "x", &|| Ok(())).unwrap().unwrap();
        let r = found.rank;
        let product = |i: usize, j: usize| (0..r).map(|k| found.b[i * r + k] * found.a[k * columns + j]).sum::<f32>();
        let off = (0..rows * columns).map(|at| (product(at / columns, at % columns) - matrix[at]).abs());
        let off = off.fold(0.0, f32::max);
        (found, off / scale)
    }

    #[test]
    fn a_matrix_of_low_rank_is_recovered_exactly_and_from_a_sketch() {
        for (shape, scale) in [((40, 60), 1.0), ((60, 40), 1e-30), ((500, 450), 1e-3), ((450, 500), 1e20)] {
            let (found, off) = error(shape, 8, Truncation::Rank(8), scale);
            assert!(off < 1e-4 && found.energy > 1.0 - 1e-6, "{shape:?}: {off} {}", found.energy);
            assert!(found.singular_values.is_sorted_by(|a, b| a >= b));
            let (found, off) = error(shape, 8, Truncation::Energy { share: 0.99999, max_rank: 64 }, scale);
            assert!(found.rank <= 8 && off < 0.2, "{shape:?}: {} {off}", found.rank);
        }
    }

    #[test]
    fn ranks_are_bounded_by_the_shape_and_by_the_limit() {
        assert_eq!(error((3, 50), 3, Truncation::Rank(32), 1.0).0.rank, 3);
        assert_eq!(error((50, 60), 20, Truncation::Energy { share: 0.999, max_rank: 4 }, 1.0).0.rank, 4);
        assert_eq!(factors(vec![0.0; 4], (2, 2), Truncation::Rank(1), "x", &|| Ok(())).unwrap(), None);
    }
}
