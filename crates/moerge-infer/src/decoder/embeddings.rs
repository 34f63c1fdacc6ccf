//! The embeddings of tokens.

use moerge_core::{error::Result, model::families::Role};

use super::{activations::Activations, weights::Weights};

/// The embeddings of `ids`, one column each. Reads only their rows.
///
/// # Errors
/// A weight is missing or cannot be read.
pub fn embeddings(weights: &dyn Weights, ids: &[u32]) -> Result<Activations> {
    let hidden = weights.description().decoder.hidden;
    let mut x = Activations::zeros(hidden, ids.len());
    let mut row = vec![0.0; hidden];
    for (column, id) in ids.iter().enumerate() {
        let id = *id as usize;
        weights.read_rows(Role::Embeddings, id..id + 1, &mut row)?;
        x.set_token(column, &row);
    }
    Ok(x)
}
