//! The activations of a model, one column per token.
//!
//! They are stored feature by feature, `[features, tokens]`: the transpose of the usual layout. A few hundred tokens
//! are multiplied by matrices of millions of weights. In this layout the product `W x` reads the weights in file order,
//! with no packing, and writes each row of the result to its final place.

use std::ops::Range;

use super::transpose::transposed_rows;

/// The number of columns is padded with zeros to a multiple of this, the width of the vector units. Smaller numbers are
/// padded to a power of two, so a single token is a contiguous vector.
const LANES: usize = 8;

/// A matrix `[features, tokens]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Activations {
    features: usize,
    tokens: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Activations {
    /// Columns for `tokens` tokens, padding included.
    pub(super) fn padded(tokens: usize) -> usize {
        if (1..LANES).contains(&tokens) { tokens.next_power_of_two() } else { tokens.next_multiple_of(LANES) }
    }

    /// A matrix of zeros.
    pub fn zeros(features: usize, tokens: usize) -> Self {
        let columns = Self::padded(tokens);
        Self { features, tokens, columns, values: vec![0.0; features * columns] }
    }

    /// From `[tokens, features]`.
    pub(super) fn from_tokens(values: &[f32], features: usize) -> Self {
        let mut x = Self::zeros(features, values.len() / features.max(1));
        for (token, values) in values.chunks_exact(features.max(1)).enumerate() {
            x.set_token(token, values);
        }
        x
    }

    /// As `[tokens, features]`.
    pub fn to_tokens(&self) -> Vec<f32> {
        transposed_rows(self.features, self.tokens, |feature| self.feature(feature))
    }

    /// The number of rows.
    pub fn features(&self) -> usize {
        self.features
    }

    /// The number of columns that are not padding.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Feature `index` of every token.
    pub fn feature(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..][..self.tokens]
    }

    /// All features of token `index`.
    pub fn token(&self, index: usize) -> Vec<f32> {
        (0..self.features).map(|f| self.values[f * self.columns + index]).collect()
    }

    /// Columns, padding included: the distance between two features in [`Activations::values`].
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Writes `features` into the column of token `index`.
    pub fn set_token(&mut self, index: usize, features: &[f32]) {
        for (row, value) in self.values.chunks_exact_mut(self.columns).zip(features) {
            row[index] = *value;
        }
    }

    /// A copy of the columns of `tokens`, in this order.
    pub fn gather(&self, tokens: &[usize]) -> Self {
        let mut part = Self::zeros(self.features, tokens.len());
        for (row, whole) in
            part.values.chunks_exact_mut(part.columns.max(1)).zip(self.values.chunks_exact(self.columns))
        {
            for (value, token) in row.iter_mut().zip(tokens) {
                *value = whole[*token];
            }
        }
        part
    }

    /// The columns of `self`, then those of `other`, which has the same number of features.
    pub fn beside(&self, other: &Self) -> Self {
        let mut both = Self::zeros(self.features, self.tokens + other.tokens);
        let columns = both.columns;
        for (feature, row) in both.values.chunks_exact_mut(columns.max(1)).enumerate() {
            row[..self.tokens].copy_from_slice(self.feature(feature));
            row[self.tokens..self.tokens + other.tokens].copy_from_slice(other.feature(feature));
        }
        both
    }

    /// `self += other`.
    pub(super) fn add(&mut self, other: &Self) {
        for (x, y) in self.values.iter_mut().zip(&other.values) {
            *x += y;
        }
    }

    /// Adds column `i` of `part`, times `weights[i]`, to the column of token `tokens[i]`.
    pub(super) fn add_scaled(&mut self, tokens: &[usize], weights: &[f32], part: &Self) {
        for (row, addend) in self.values.chunks_exact_mut(self.columns).zip(part.values.chunks_exact(part.columns)) {
            for ((token, weight), value) in tokens.iter().zip(weights).zip(addend) {
                row[*token] += weight * value;
            }
        }
    }

    /// Adds `bias[f]` to every token's feature `f`.
    pub(super) fn add_bias(&mut self, bias: &[f32]) {
        let (tokens, columns) = (self.tokens, self.columns);
        for (row, bias) in self.values.chunks_exact_mut(columns).zip(bias) {
            row[..tokens].iter_mut().for_each(|x| *x += bias);
        }
    }

    /// Ranges of at most `max` tokens that cover all tokens.
    pub(super) fn token_chunks(&self, max: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let tokens = self.tokens;
        (0..tokens).step_by(max).map(move |start| start..(start + max).min(tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_and_padding_stays_out_of_sight() {
        let mut x = Activations::zeros(2, 3);
        x.set_token(1, &[1.0, 2.0]);
        x.add_bias(&[10.0, 20.0]);
        assert_eq!(x.columns(), 4);
        assert_eq!(x.feature(0), [10.0, 11.0, 10.0]);
        assert_eq!(x.token(1), [11.0, 22.0]);
        assert_eq!((x.values()[3], x.values()[7]), (0.0, 0.0));
        let part = x.gather(&[1, 2]);
        assert_eq!((part.feature(0), part.feature(1)), (&[11.0, 10.0][..], &[22.0, 20.0][..]));
        x.add_scaled(&[1, 0], &[1.0, 0.5], &part);
        assert_eq!(x.feature(0), [15.0, 22.0, 10.0]);
    }
}
