//! The order of the rows of q and k.
//!
//! Rotary embeddings rotate pairs of elements. Hugging Face's lie in the two halves of a head; for some architectures
//! llama.cpp's lie beside each other.

/// Where row `row` of llama.cpp's order is in Hugging Face's, for heads of `head_dim` rows.
pub fn from_halves(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + within % 2 * (head_dim / 2) + within / 2
}

/// Where row `row` of Hugging Face's order is in llama.cpp's: the inverse of [`from_halves`].
pub fn from_pairs(row: usize, head_dim: usize) -> usize {
    let (head, within, half) = (row / head_dim, row % head_dim, head_dim / 2);
    head * head_dim + within % half * 2 + within / half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_order_is_the_inverse_of_the_other() {
        assert_eq!((0..8).map(|row| from_halves(row, 8)).collect::<Vec<_>>(), [0, 4, 1, 5, 2, 6, 3, 7]);
        assert!((0..24).all(|row| from_halves(from_pairs(row, 8), 8) == row));
    }
}
