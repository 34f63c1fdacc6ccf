//! Makes the expressions of the output's tensors.

use moerge_checkpoint::Dtype;

use super::{IDLE_SHARED_GATE, Models, Slots, attention, shared};
use crate::error::Result;
use crate::ops::{Expr, Noise};
use crate::plan::OutputTensor;
use crate::{
    model::{
        families::{Description, FfnMatrix, LayerRole, Role, RoleTensor},
        source::{Source, Weight},
    },
    recipe::{Expert, Recipe, SharedWeights},
};

/// Makes the expressions of a plan.
pub(super) struct ExprMaker<'a> {
    pub recipe: &'a Recipe,
    pub models: &'a Models,
    pub slots: &'a Slots,
    pub description: &'a Description,
    pub dtype: Dtype,
    pub lora_dtype: Option<Dtype>,
}

impl ExprMaker<'_> {
    /// Plans `tensor` of the output.
    ///
    /// # Errors
    /// The merge method of the shared weights lacks a parameter, or does not accept this number of inputs.
    pub fn output_tensor(&self, tensor: &RoleTensor) -> Result<OutputTensor> {
        let expr = self.expr(tensor)?;
        Ok(OutputTensor { name: tensor.name.clone(), encoding: self.dtype.into(), shape: tensor.shape.clone(), expr })
    }

    /// The expression of `tensor` of the output.
    fn expr(&self, tensor: &RoleTensor) -> Result<Expr> {
        let Role::Layer(layer, role) = tensor.role else { return self.shared_expr(tensor) };
        Ok(match role {
            LayerRole::Router => computed(tensor),
            LayerRole::Expert(slot, matrix) => self.expert_expr(tensor, layer, slot, matrix),
            LayerRole::SharedExpert(matrix) => {
                match (self.models.shared_expert(), self.recipe.shared_experts.first()) {
                    (Some(source), Some(expert)) => self.ffn_expr(tensor, layer, matrix, source, expert, &tensor.name),
                    _ => fill(tensor, 0.0),
                }
            }
            LayerRole::SharedExpertGate if self.models.shared_expert().is_some() => computed(tensor),
            LayerRole::SharedExpertGate => fill(tensor, IDLE_SHARED_GATE),
            _ => return self.shared_expr(tensor),
        })
    }

    /// A weight that the experts share.
    fn shared_expr(&self, tensor: &RoleTensor) -> Result<Expr> {
        let weights = || shared::experts_weights(self.recipe, self.models, tensor).0;
        let merged = match &self.recipe.shared_weights {
            SharedWeights::Base => None,
            SharedWeights::Average => {
                let weights = weights();
                match weights.first().filter(|_| shared::all_the_same(&weights)) {
                    Some(same) => Some(self.transform(tensor, &same.weight, None, None)),
                    None => shared::mean(weights, self.lora_dtype),
                }
            }
            SharedWeights::Merge(merge) => {
                shared::merged(self.recipe, self.models, merge, tensor, weights(), self.lora_dtype)?
            }
        };
        Ok(merged.unwrap_or_else(|| match self.models.base().weight(tensor.role) {
            Some(weight) => self.transform(tensor, weight, None, None),
            // Qwen2-MoE always has q, k and v biases; Llama has none.
            None => fill(tensor, 0.0),
        }))
    }

    fn expert_expr(&self, tensor: &RoleTensor, layer: usize, slot: usize, matrix: FfnMatrix) -> Expr {
        let Some(index) = self.slots.in_layer(layer).get(slot).copied() else { return fill(tensor, 0.0) };
        // An expert in two slots is identical in both, including its noise.
        let first = self.slots.slot(layer, index).unwrap_or(slot);
        let name = self.description.get(Role::Layer(layer, LayerRole::Expert(first, matrix))).map_or("", |t| &t.name);
        self.ffn_expr(tensor, layer, matrix, self.models.expert(index), &self.recipe.experts[index], name)
    }

    /// A matrix of `expert` with the noise of the output tensor `name`.
    fn ffn_expr(
        &self,
        tensor: &RoleTensor,
        layer: usize,
        matrix: FfnMatrix,
        source: &Source,
        expert: &Expert,
        name: &str,
    ) -> Expr {
        let noise = expert.noise_scale.filter(|n| *n != 0.0).map(|scale| Noise { scale, name: name.to_owned() });
        let scale = expert.residual_scale.filter(|_| matrix == FfnMatrix::Down);
        match source.weight(Role::Layer(layer, LayerRole::Ffn(matrix))) {
            Some(weight) => self.transform(tensor, weight, noise, scale),
            None => fill(tensor, 0.0),
        }
    }

    /// The FFN matrix of an expert alone in a layer without it: the base's.
    pub fn stand_ins(&self) -> Vec<(Role, OutputTensor)> {
        let base = self.models.base();
        let in_all = |layer: usize| (0..self.slots.experts()).all(|e| self.slots.slot(layer, e).is_some());
        let stand_in = |tensor: &RoleTensor| {
            let Role::Layer(layer, LayerRole::Ffn(_)) = tensor.role else { return None };
            let weight = base.weight(tensor.role).filter(|_| !in_all(layer))?;
            let expr = self.transform(tensor, weight, None, None);
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            Some((tensor.role, OutputTensor { name, encoding: self.dtype.into(), shape, expr }))
        };
        base.description.tensors.iter().filter_map(stand_in).collect()
    }

    /// A source's weight with the operations of the recipe, as `tensor`.
    fn transform(&self, tensor: &RoleTensor, weight: &Weight, noise: Option<Noise>, scale: Option<f64>) -> Expr {
        let mut expr = weight.expr(self.lora_dtype);
        if let Some(noise) = noise {
            expr = Expr::Noise { input: Box::new(expr), noise };
        }
        if let Some(factor) = scale.filter(|s| *s != 1.0) {
            expr = Expr::Scale { input: Box::new(expr), factor };
        }
        if expr.shape() != tensor.shape {
            expr = Expr::Pad { input: Box::new(expr), shape: tensor.shape.clone() };
        }
        expr
    }

    /// Warnings about experts that are left out of the mean of the shared weights.
    pub fn averaging_warnings(&self) -> Vec<String> {
        if !self.recipe.shared_weights.of_experts() {
            return Vec::new();
        }
        let once = self.description.tensors.iter().filter(|t| self.models.base().weight(t.role).is_some());
        let mut left_out: std::collections::BTreeMap<usize, Vec<&str>> = std::collections::BTreeMap::new();
        for tensor in once {
            for expert in shared::experts_weights(self.recipe, self.models, tensor).1 {
                left_out.entry(expert).or_default().push(&tensor.name);
            }
        }
        let warning = |(expert, names): (usize, Vec<&str>)| {
            let source = self.models.expert(expert);
            let who = format!("expert {expert} ({})", source.short_name());
            match attention::differences(self.models.base(), source).first() {
                Some(why) => format!("{who} is left out of the merge of attention, norms and embeddings: {why}"),
                None => format!(
                    "{who} is left out of the merge of {} tensors, which it lacks or has in another shape: {}{}",
                    names.len(),
                    names[0],
                    if names.len() > 1 { ", ..." } else { "" }
                ),
            }
        };
        left_out.into_iter().map(warning).collect()
    }

    /// The error for values that do not fit the output's dtype.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for source in &self.models.sources {
            let dtype = source.weight(Role::Layer(0, LayerRole::Ffn(FfnMatrix::Down))).map(|w| w.dtype);
            if let (Some(dtype), true) = (dtype, self.dtype == Dtype::F16)
                && dtype != Dtype::F16
            {
                warnings.push(format!(
                    "{} is {}; values above 65504 become infinite in float16",
                    source.reference,
                    dtype.name()
                ));
            }
        }
        warnings
    }
}

fn computed(tensor: &RoleTensor) -> Expr {
    Expr::Computed { name: tensor.name.clone(), shape: tensor.shape.clone() }
}

fn fill(tensor: &RoleTensor, value: f32) -> Expr {
    Expr::Fill { value, shape: tensor.shape.clone() }
}
