//! A model's tensors as llama.cpp wants them: experts stacked, q and k in its order of rows, fused where it fuses.

use std::sync::Arc;

use super::{GgufModel, named_tensor::NamedTensor, rope};
use crate::{
    error::Result,
    model::{
        families::{FfnMatrix, FfnSpec, GgufArchitecture, LayerRole, LayerSpec, Projection, Role},
        gguf::{names::name, rows::from_halves},
    },
    ops::Expr,
};

/// Every tensor of the file, in its order.
pub fn tensors(model: &GgufModel, architecture: GgufArchitecture) -> Result<Vec<NamedTensor>> {
    let mut tensors = vec![NamedTensor::new(name(Role::Embeddings), model.weight(Role::Embeddings)?)];
    tensors.extend(rope::factors(model)?);
    for (layer, spec) in model.description.decoder.layers.iter().enumerate() {
        let of = Layer { model, architecture, layer, spec };
        for (role, _) in spec.weights(model.description.decoder.hidden) {
            tensors.extend(of.tensor(role)?);
        }
        tensors.extend(of.missing_shared_expert());
    }
    tensors.push(NamedTensor::new(name(Role::FinalNorm), model.weight(Role::FinalNorm)?));
    if !model.description.decoder.tied_embeddings {
        tensors.push(NamedTensor::new(name(Role::LmHead), model.weight(Role::LmHead)?));
    }
    Ok(tensors)
}

struct Layer<'a> {
    model: &'a GgufModel,
    architecture: GgufArchitecture,
    layer: usize,
    spec: &'a LayerSpec,
}

impl Layer<'_> {
    /// The tensor that a role begins; none where the role is a part of one that another role begins.
    fn tensor(&self, role: LayerRole) -> Result<Option<NamedTensor>> {
        let whole = |expr| Ok(Some(NamedTensor::new(self.name(role), expr)));
        match role {
            LayerRole::Expert(0, matrix) => whole(self.experts(matrix)?),
            LayerRole::Expert(..) => Ok(None),
            LayerRole::SharedExpert(_) | LayerRole::SharedExpertGate if !self.architecture.has_shared_expert() => {
                Ok(None)
            }
            LayerRole::Attention(Projection::Q) if self.architecture.is_fused() => {
                let parts = [Projection::Q, Projection::K, Projection::V].map(LayerRole::Attention);
                self.fused("attn_qkv.weight", &parts)
            }
            LayerRole::Attention(Projection::K | Projection::V) if self.architecture.is_fused() => Ok(None),
            LayerRole::Ffn(FfnMatrix::Gate) if self.architecture.is_fused() => {
                self.fused("ffn_up.weight", &[FfnMatrix::Gate, FfnMatrix::Up].map(LayerRole::Ffn))
            }
            LayerRole::Ffn(FfnMatrix::Up) if self.architecture.is_fused() => Ok(None),
            LayerRole::Attention(projection) | LayerRole::AttentionBias(projection) => {
                whole(self.ordered(projection, self.weight(role)?))
            }
            _ => whole(self.weight(role)?),
        }
    }

    fn weight(&self, role: LayerRole) -> Result<Expr> {
        self.model.weight(Role::Layer(self.layer, role))
    }

    fn name(&self, role: LayerRole) -> String {
        name(Role::Layer(self.layer, role))
    }

    /// A matrix of all experts as one tensor `[experts, rows, columns]`.
    fn experts(&self, matrix: FfnMatrix) -> Result<Expr> {
        let FfnSpec::Experts(experts) = &self.spec.ffn else { return self.weight(LayerRole::Ffn(matrix)) };
        let weights = (0..experts.experts).map(|expert| self.weight(LayerRole::Expert(expert, matrix)));
        let inputs = weights.collect::<Result<Vec<_>>>()?;
        let each = inputs.first().map_or(&[][..], Expr::shape);
        let shape = [&[experts.experts], each].concat();
        Ok(Expr::Concat { inputs, shape })
    }

    /// A shared expert of zeros, where the architecture needs one and the model has none.
    fn missing_shared_expert(&self) -> Vec<NamedTensor> {
        let FfnSpec::Experts(experts) = &self.spec.ffn else { return Vec::new() };
        if self.architecture != GgufArchitecture::Deepseek || experts.shared.is_some() {
            return Vec::new();
        }
        let (hidden, width) = (self.model.description.decoder.hidden, experts.intermediate);
        let zeros = |matrix: FfnMatrix| {
            let shape = if matrix == FfnMatrix::Down { vec![hidden, width] } else { vec![width, hidden] };
            NamedTensor::new(self.name(LayerRole::SharedExpert(matrix)), Expr::Fill { shape, value: 0.0 })
        };
        [FfnMatrix::Gate, FfnMatrix::Up, FfnMatrix::Down].map(zeros).into()
    }

    fn fused(&self, name: &str, parts: &[LayerRole]) -> Result<Option<NamedTensor>> {
        let inputs = parts.iter().map(|role| self.weight(*role)).collect::<Result<Vec<_>>>()?;
        let rows = inputs.iter().filter_map(|input| input.shape().first()).sum();
        let columns = inputs.first().and_then(|input| input.shape().get(1)).copied().unwrap_or(1);
        let expr = Expr::Concat { inputs, shape: vec![rows, columns] };
        Ok(Some(NamedTensor::new(format!("blk.{}.{name}", self.layer), expr)))
    }

    /// Rotary pairs lie in the two halves of a head in Hugging Face's order, beside each other in llama.cpp's for some
    /// architectures.
    fn ordered(&self, projection: Projection, expr: Expr) -> Expr {
        let attention = self.spec.attention();
        let heads = match projection {
            Projection::Q => attention.heads,
            Projection::K => attention.kv_heads,
            Projection::V | Projection::O => return expr,
        };
        if !self.architecture.has_adjacent_pairs() {
            return expr;
        }
        let head_dim = attention.head_dim;
        let map: Arc<[Option<usize>]> = (0..heads * head_dim).map(|row| Some(from_halves(row, head_dim))).collect();
        let shape = expr.shape().to_vec();
        Expr::RowMap { input: Box::new(expr), map, shape }
    }
}
