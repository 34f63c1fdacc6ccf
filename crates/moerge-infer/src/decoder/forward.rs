//! The forward pass over prompts: embeddings, then one layer after the other, with every weight read once.
//!
//! An [`Observer`] sees the activations between layers. The caller chooses after which layer the pass ends.

use super::{
    activations::Activations,
    attention,
    batch::Batch,
    ffn,
    input_squares::{Counted, InputSquares},
    kv_cache::KvCache,
    linear::Streamed,
    matrices::Matrices,
    norm::rms_norm,
    observer::Observer,
    rounding::WeightRounding,
    stream::with_stream,
    weights::{Weights, bug},
};
use crate::prefix_tree::PrefixTree;
use moerge_core::{
    error::Result,
    model::{
        families::{
            DecoderOptions,
            LayerRole::{FfnNorm, InputNorm},
            LayerSpec, Role,
        },
        layer_spec::{NormKind, NormPlacement, NormSpec},
    },
    progress::{Progress, Stage},
};

/// How a pass runs.
#[derive(Debug, Default)]
pub struct Pass<'a> {
    /// The number of layers to run; all if not given.
    pub layers: Option<usize>,
    /// The rounding of the weights.
    pub rounding: Option<WeightRounding>,
    /// Counts what the matrices are multiplied with.
    pub squares: Option<&'a mut InputSquares>,
}

/// Runs layers over `sequences` of tokens and returns the residual stream after them.
///
/// Reports each layer, and the bytes read, as [`Stage::Prompts`].
///
/// # Errors
/// A weight is missing or cannot be read, a token has no embedding, or the run was stopped.
pub fn forward(
    weights: &dyn Weights,
    sequences: &[Vec<u32>],
    pass: Pass<'_>,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
) -> Result<Activations> {
    forward_batch(weights, &Batch::new(sequences, &weights.description().decoder)?, pass, observer, progress)
}

/// The same for the sequences of a tree, one column per token of its nodes.
///
/// # Errors
/// A weight is missing or cannot be read, a token has no embedding, or the run was stopped.
pub fn forward_tree(
    weights: &dyn Weights,
    tree: &PrefixTree,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
) -> Result<Activations> {
    let batch = Batch::of_tree(tree, &weights.description().decoder)?;
    forward_batch(weights, &batch, Pass::default(), observer, progress)
}

fn forward_batch(
    weights: &dyn Weights,
    batch: &Batch,
    pass: Pass<'_>,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
) -> Result<Activations> {
    let options = &weights.description().decoder;
    let layers = pass.layers.unwrap_or(options.layers.len());
    let specs = options.layers.iter().enumerate().take(layers);
    let roles: Vec<Role> = specs.flat_map(|(layer, spec)| layer_roles(spec, layer, batch.ids.len())).collect();
    with_stream(weights, &roles, progress, |stream| {
        let mut matrices = Streamed::new(stream, pass.rounding);
        let x = matrices.embeddings(&batch.ids)?;
        match pass.squares {
            None => run(&mut matrices, x, batch, None, layers, observer, progress),
            Some(squares) => run(&mut Counted { matrices, squares }, x, batch, None, layers, observer, progress),
        }
    })
}

/// Runs layers `0..layers` on `x`, the embeddings of `batch`.
pub(super) fn run(
    matrices: &mut impl Matrices,
    mut x: Activations,
    batch: &Batch,
    mut cache: Option<&mut KvCache>,
    layers: usize,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
) -> Result<Activations> {
    for layer in 0..layers {
        progress.check()?;
        let norms = matrices.options().layers.get(layer).map(|spec| spec.norms);
        let NormSpec { placement: NormPlacement::Before, kind: NormKind::Rms { eps } } =
            norms.ok_or_else(|| bug(format!("a model without layer {layer}")))?;
        let role = |role| Role::Layer(layer, role);
        observer.entering(layer, &x)?;
        let normed = rms_norm(&x, &matrices.vector(role(InputNorm))?, eps);
        x.add(&attention::attention(matrices, layer, &normed, batch, cache.as_deref_mut())?);
        let u = rms_norm(&x, &matrices.vector(role(FfnNorm))?, eps);
        observer.router_input(layer, &u)?;
        x.add(&ffn::ffn(matrices, layer, &u, observer)?);
        progress.advance(Stage::Prompts, 1);
    }
    observer.entering(layers, &x)?;
    Ok(x)
}

/// The weights that a layer reads, in order.
fn layer_roles(spec: &LayerSpec, layer: usize, tokens: usize) -> Vec<Role> {
    let mut roles = vec![Role::Layer(layer, InputNorm)];
    roles.extend(attention::roles(spec.attention(), layer));
    roles.push(Role::Layer(layer, FfnNorm));
    roles.extend(ffn::roles(&spec.ffn, layer, tokens));
    roles
}

/// Next-token logits, `[vocabulary, tokens]`, from the residual stream after the last layer.
///
/// # Errors
/// A weight is missing or cannot be read, or the run was stopped.
pub fn logits(weights: &dyn Weights, x: &Activations, progress: &dyn Progress) -> Result<Activations> {
    let roles = [Role::FinalNorm, head(&weights.description().decoder)];
    with_stream(weights, &roles, progress, |stream| scores(&mut Streamed::new(stream, None), x))
}

/// The same for a model whose weights are in use already.
pub(super) fn scores(matrices: &mut impl Matrices, x: &Activations) -> Result<Activations> {
    let normed = rms_norm(x, &matrices.vector(Role::FinalNorm)?, matrices.options().norm_eps);
    let head = head(matrices.options());
    let [scores] = matrices.times([head], &normed)?;
    Ok(scores)
}

pub(super) fn head(options: &DecoderOptions) -> Role {
    if options.tied_embeddings { Role::Embeddings } else { Role::LmHead }
}
