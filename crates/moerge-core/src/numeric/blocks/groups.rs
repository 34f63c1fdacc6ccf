//! Groups of weights side by side in memory, and what their weights count in a search.

use super::unit::LANES;

/// One number per group.
pub(super) type Side = [f32; LANES];

/// Eight groups of `N` weights: element i has weight i of each.
pub(super) type Groups<const N: usize> = [Side; N];

/// The first up to eight groups of `x`. Groups that `x` does not have are zeros.
pub(super) fn side_by_side<const N: usize>(x: &[f32]) -> Groups<N> {
    let mut groups = [[0.0; LANES]; N];
    for (group, x) in x.as_chunks::<N>().0.iter().take(LANES).enumerate() {
        for (side, x) in groups.iter_mut().zip(x) {
            side[group] = *x;
        }
    }
    groups
}

/// What `f` makes of each weight and its group's number.
pub(super) fn map<const N: usize>(x: &Groups<N>, number: &Side, f: impl Fn(f32, f32) -> f32) -> Groups<N> {
    let mut out = *x;
    for side in &mut out {
        for (x, number) in side.iter_mut().zip(number) {
            *x = f(*x, *number);
        }
    }
    out
}

/// The squares of the weights.
pub(super) fn squares<const N: usize>(x: &Groups<N>) -> Groups<N> {
    map(x, &[0.0; LANES], |x, _| x * x)
}

/// What weights `x` count in a search by `importance`: `importance * sqrt(variance + x^2)`. ggml takes the variance of
/// more weights than the group's, so that a small weight does not count for nothing.
pub(super) fn weighted<const N: usize>(x: &Groups<N>, importance: &[f32], variance: &Side) -> Groups<N> {
    let mut weights = map(x, variance, |x, variance| (variance + x * x).sqrt());
    for (side, importance) in weights.iter_mut().zip(side_by_side::<N>(importance)) {
        for (weight, importance) in side.iter_mut().zip(importance) {
            *weight *= importance;
        }
    }
    weights
}

/// The sum of each group, one weight after the other.
pub(super) fn sums<const N: usize>(x: &Groups<N>) -> Side {
    let mut sums = [0.0; LANES];
    for side in x {
        for (sum, x) in sums.iter_mut().zip(side) {
            *sum += x;
        }
    }
    sums
}

/// The sum of squares, one after the other.
pub(super) fn sum_of_squares(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, x| sum + x * x)
}
