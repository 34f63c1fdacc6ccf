//! What the layers compute with: a model's weights as products, wherever they are.
//!
//! The layers ([`super::attention`], [`super::ffn`], [`super::experts`]) are written once over [`Matrices`]. Weights
//! that pass by as a stream ([`super::linear`]) and weights that stay in memory ([`super::resident`]) both are that.

use super::activations::Activations;
use moerge_core::{
    error::Result,
    model::families::{DecoderOptions, Role},
};

/// A model's weights. They are asked for in the order in which the layers use them, which is that of `roles` of
/// attention and FFN; what is not needed is skipped.
pub(super) trait Matrices {
    /// How to run the model.
    fn options(&self) -> &DecoderOptions;

    /// `W x` for each `W` of `roles`.
    fn times<const N: usize>(&mut self, roles: [Role; N], x: &Activations) -> Result<[Activations; N]>;

    /// A whole vector, such as a norm.
    fn vector(&mut self, role: Role) -> Result<Vec<f32>>;

    /// Lets `role` pass unused.
    fn skip(&mut self, role: Role) -> Result<()>;

    /// The embeddings of `ids`, a column each.
    fn embeddings(&mut self, ids: &[u32]) -> Result<Activations>;
}
