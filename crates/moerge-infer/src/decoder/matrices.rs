//! The operations that the layers need of a model's weights.
//!
//! The layers ([`super::attention`], [`super::ffn`], [`super::experts`]) are generic over [`Matrices`], which is
//! implemented for streamed weights ([`super::linear`]) and for weights in memory ([`super::resident`]).

use super::activations::Activations;
use moerge_core::{
    error::Result,
    model::families::{DecoderOptions, Role},
};

/// A model's weights. They are requested in the order of the `roles` functions of attention and FFN; unused ones are
/// skipped.
pub(super) trait Matrices {
    /// The model's options.
    fn options(&self) -> &DecoderOptions;

    /// `W x` for each `W` in `roles`.
    fn times<const N: usize>(&mut self, roles: [Role; N], x: &Activations) -> Result<[Activations; N]>;

    /// Calls `each` with parts of `W x`, `[rows, tokens]` without padding, and the index of the part's first row: for a
    /// `W` with so many rows that the whole product should not be in memory. Several threads do so, in any order, but the
    /// parts are always the same.
    fn parts(&mut self, role: Role, x: &Activations, each: &(dyn Fn(usize, &[f32]) + Sync)) -> Result<()>;

    /// A vector, such as a norm's weight.
    fn vector(&mut self, role: Role) -> Result<Vec<f32>>;

    /// Skips `role`.
    fn skip(&mut self, role: Role) -> Result<()>;

    /// The embeddings of `ids`, one column each.
    fn embeddings(&mut self, ids: &[u32]) -> Result<Activations>;
}
