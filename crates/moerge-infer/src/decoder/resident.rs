//! A model whose weights stay in memory, for generation and repeated passes.

use std::collections::HashMap;

use super::{
    activations::Activations,
    batch::Batch,
    forward::{run, scores},
    kv_cache::KvCache,
    matrices::Matrices,
    observer::Observer,
    products,
    quantised::{Matrix, Quantisation},
    token_scores::{self, TokenScore},
    weights::{Weights, bug, matrix_shape},
};
use crate::prefix_tree::PrefixTree;
use moerge_core::{
    error::Result,
    model::families::{DecoderOptions, Description, LayerRole, Role, RoleTensor},
    progress::{Progress, Stage},
};

/// A model in memory.
pub struct ResidentModel {
    options: DecoderOptions,
    /// The embeddings. A tied head is stored a second time, in the format for products.
    embeddings: Matrix,
    matrices: HashMap<Role, Matrix>,
    vectors: HashMap<Role, Vec<f32>>,
}

impl ResidentModel {
    /// Reads all weights in the format `quantisation`. Norms, biases and routers stay f32, embeddings are at least
    /// bf16, and the head is at least q8_0. Reports weights as [`Stage::Load`].
    ///
    /// # Errors
    /// A weight is missing or cannot be read, or the run was stopped.
    pub fn load(weights: &dyn Weights, quantisation: Quantisation, progress: &dyn Progress) -> Result<Self> {
        let description = weights.description();
        progress.start(Stage::Load, Self::bytes(description, quantisation), 0);
        let build = |tensor: &RoleTensor, kept: Quantisation| {
            let (rows, columns) = matrix_shape(tensor);
            Matrix::build(kept, (rows, columns), |rows, out| {
                progress.check()?;
                let bytes = kept.bytes(rows.len(), columns);
                weights.read_rows(tensor.role, rows, out)?;
                progress.advance(Stage::Load, bytes);
                Ok(())
            })
        };
        let (mut embeddings, mut matrices, mut vectors) = (None, HashMap::new(), HashMap::new());
        for tensor in &description.tensors {
            match kept(tensor, &description.decoder, quantisation) {
                Kept::Vector => {
                    let mut vector = vec![0.0; matrix_shape(tensor).0];
                    weights.read_rows(tensor.role, 0..vector.len(), &mut vector)?;
                    vectors.insert(tensor.role, vector);
                }
                Kept::Matrix(kept) => {
                    matrices.insert(tensor.role, build(tensor, kept)?);
                }
                Kept::Embeddings { rows, head } => {
                    embeddings = Some(build(tensor, rows)?);
                    if let Some(head) = head {
                        matrices.insert(tensor.role, build(tensor, head)?);
                    }
                }
            }
        }
        progress.finish(Stage::Load, "");
        Ok(Self {
            options: description.decoder.clone(),
            embeddings: embeddings.ok_or_else(|| bug("a model without embeddings"))?,
            matrices,
            vectors,
        })
    }

    /// Bytes of memory that [`ResidentModel::load`] needs for the weights, without norms and biases.
    pub fn bytes(description: &Description, quantisation: Quantisation) -> u64 {
        let bytes = |tensor: &RoleTensor| {
            let (rows, columns) = matrix_shape(tensor);
            match kept(tensor, &description.decoder, quantisation) {
                Kept::Vector => 0,
                Kept::Matrix(kept) => kept.bytes(rows, columns),
                Kept::Embeddings { rows: kept, head } => {
                    kept.bytes(rows, columns) + head.map_or(0, |head| head.bytes(rows, columns))
                }
            }
        };
        description.tensors.iter().map(bytes).sum()
    }

    /// The model's options.
    pub fn options(&self) -> &DecoderOptions {
        &self.options
    }

    /// Runs the model on the next tokens of some sequences of the cache, `(sequence, tokens)` each. Returns the
    /// residual stream after the last layer, one column per token.
    ///
    /// # Errors
    /// A token has no embedding, or the run was stopped.
    pub fn forward(
        &self,
        cache: &mut KvCache,
        next: &[(usize, &[u32])],
        observer: &mut (dyn Observer + Send),
        progress: &dyn Progress,
    ) -> Result<Activations> {
        let sequences: Vec<Vec<u32>> = next.iter().map(|(_, tokens)| tokens.to_vec()).collect();
        let before: Vec<usize> = next.iter().map(|(sequence, _)| cache.tokens(*sequence)).collect();
        let mut batch = Batch::after(&sequences, &before, &self.options)?;
        batch.slots = next.iter().map(|(sequence, _)| *sequence).collect();
        let mut matrices = self;
        let x = matrices.embeddings(&batch.ids)?;
        // Enter the pool once: otherwise each of a token's hundreds of products would wake it up.
        rayon::scope(|_| run(&mut matrices, x, &batch, Some(cache), self.options.layers.len(), observer, progress))
    }

    /// Runs the model like [`ResidentModel::forward`] and returns the logits after the last token of each sequence, in
    /// the order of `next`: one step of generation.
    ///
    /// # Errors
    /// A token has no embedding, or the run was stopped.
    pub fn step(
        &self,
        cache: &mut KvCache,
        next: &[(usize, &[u32])],
        observer: &mut (dyn Observer + Send),
        progress: &dyn Progress,
    ) -> Result<Activations> {
        let x = self.forward(cache, next, observer, progress)?;
        let ends = next.iter().scan(0, |end, (_, tokens)| {
            *end += tokens.len();
            Some(*end - 1)
        });
        self.logits(&x.gather(&ends.collect::<Vec<_>>()))
    }

    /// The residual stream after the last layer for whole sequences, packed in order, without a cache.
    ///
    /// # Errors
    /// A token has no embedding, or the run was stopped.
    pub fn forward_whole(
        &self,
        sequences: &[Vec<u32>],
        observer: &mut dyn Observer,
        progress: &dyn Progress,
    ) -> Result<Activations> {
        self.forward_batch(&Batch::new(sequences, &self.options)?, observer, progress)
    }

    /// The same for the sequences of a tree, one column per token of its nodes.
    ///
    /// # Errors
    /// A token has no embedding, or the run was stopped.
    pub fn forward_tree(
        &self,
        tree: &PrefixTree,
        observer: &mut dyn Observer,
        progress: &dyn Progress,
    ) -> Result<Activations> {
        self.forward_batch(&Batch::of_tree(tree, &self.options)?, observer, progress)
    }

    fn forward_batch(
        &self,
        batch: &Batch,
        observer: &mut dyn Observer,
        progress: &dyn Progress,
    ) -> Result<Activations> {
        let mut matrices = self;
        let x = matrices.embeddings(&batch.ids)?;
        run(&mut matrices, x, batch, None, self.options.layers.len(), observer, progress)
    }

    fn matrix(&self, role: Role) -> Result<&Matrix> {
        self.matrices.get(&role).ok_or_else(|| bug(format!("a model in memory without {role:?}")))
    }

    /// The scores of tokens `.1` after columns `.0` of `x`, the result of [`ResidentModel::forward`].
    ///
    /// # Errors
    /// A token is outside the vocabulary, or the run was stopped.
    pub fn token_scores(
        &self,
        x: &Activations,
        wanted: &[(usize, u32)],
        progress: &dyn Progress,
    ) -> Result<Vec<TokenScore>> {
        let mut matrices = self;
        token_scores::scores(&mut matrices, x, wanted, progress)
    }

    /// Next-token logits, `[vocabulary, tokens]`, from the result of [`ResidentModel::forward`].
    ///
    /// # Errors
    /// The model has no head.
    pub fn logits(&self, x: &Activations) -> Result<Activations> {
        let mut matrices = self;
        scores(&mut matrices, x)
    }
}

/// How a tensor is stored.
enum Kept {
    Vector,
    Matrix(Quantisation),
    Embeddings { rows: Quantisation, head: Option<Quantisation> },
}

fn kept(tensor: &RoleTensor, options: &DecoderOptions, quantisation: Quantisation) -> Kept {
    let head = if quantisation == Quantisation::Q4K { Quantisation::Q8_0 } else { quantisation };
    match tensor.role {
        _ if tensor.shape.len() < 2 => Kept::Vector,
        Role::Layer(_, LayerRole::Router | LayerRole::SharedExpertGate) => Kept::Matrix(Quantisation::F32),
        Role::LmHead => Kept::Matrix(head),
        Role::Embeddings => {
            let exact = quantisation == Quantisation::F32;
            let rows = if exact { quantisation } else { Quantisation::BF16 };
            Kept::Embeddings { rows, head: options.tied_embeddings.then_some(head) }
        }
        _ => Kept::Matrix(quantisation),
    }
}

impl Matrices for &ResidentModel {
    fn options(&self) -> &DecoderOptions {
        &self.options
    }

    fn times<const N: usize>(&mut self, roles: [Role; N], x: &Activations) -> Result<[Activations; N]> {
        let mut matrices = [&self.embeddings; N];
        for (place, role) in matrices.iter_mut().zip(roles) {
            *place = self.matrix(role)?;
        }
        Ok(products::times(matrices, x))
    }

    fn parts(&mut self, role: Role, x: &Activations, each: &(dyn Fn(usize, &[f32]) + Sync)) -> Result<()> {
        products::parts(self.matrix(role)?, x, each);
        Ok(())
    }

    fn vector(&mut self, role: Role) -> Result<Vec<f32>> {
        self.vectors.get(&role).cloned().ok_or_else(|| bug(format!("a model in memory without {role:?}")))
    }

    fn skip(&mut self, _: Role) -> Result<()> {
        Ok(())
    }

    fn embeddings(&mut self, ids: &[u32]) -> Result<Activations> {
        let rows: Vec<Vec<f32>> = ids.iter().map(|id| self.embeddings.row(*id as usize)).collect::<Result<_>>()?;
        Ok(Activations::from_tokens(&rows.concat(), self.options.hidden))
    }
}
