//! Softmax.

/// `softmax(scale * row)` in place.
pub(super) fn softmax(row: &mut [f32], scale: f32) {
    let largest = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let mut sum = 0.0f32;
    for x in row.iter_mut() {
        *x = ((*x - largest) * scale).exp();
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x /= sum);
}
