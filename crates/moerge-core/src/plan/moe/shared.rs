//! Where attention, norms, embeddings and head come from: the base, or the mean of the experts.

use super::{Models, attention};
use crate::{
    model::{
        families::{Role, RoleTensor},
        source::Weight,
    },
    ops::{Expr, Linear, Method},
    recipe::{Expert, Recipe},
};
use moerge_checkpoint::Dtype;

/// The experts' weights of `tensor` with what each counts for, and the numbers of the experts that have none of this
/// shape or whose attention works in another way than the base's. An expert's embeddings may have more rows than the base's; those are cut off. An expert that is not in a layer
/// has no say in it.
pub(super) fn experts_weights(
    recipe: &Recipe,
    models: &Models,
    tensor: &RoleTensor,
) -> (Vec<(Weight, f64)>, Vec<usize>) {
    let vocabulary = matches!(tensor.role, Role::Embeddings | Role::LmHead);
    let (mut fitting, mut others) = (Vec::new(), Vec::new());
    let here = |expert: &&Expert| match (&expert.layers, tensor.role) {
        (Some(layers), Role::Layer(layer, _)) => layers.contains(layer),
        _ => true,
    };
    for (index, expert) in recipe.experts.iter().enumerate().filter(|(_, expert)| here(expert)) {
        let share = expert.shared_weight.unwrap_or(1.0);
        let fits = |weight: &Weight| {
            let (rows, wanted) = (weight.view.shape.first(), tensor.shape.first());
            let same_rows = if vocabulary { rows >= wanted } else { rows == wanted };
            same_rows && weight.view.shape.get(1..) == tensor.shape.get(1..)
        };
        let source = models.expert(index);
        let means_the_same = attention::differences(models.base(), source).is_empty();
        match source.weight(tensor.role).filter(|w| means_the_same && fits(w)) {
            _ if share == 0.0 => {}
            None => others.push(index),
            Some(weight) => {
                let mut weight = weight.clone();
                if let Some(cut) = tensor.shape.first().and_then(|rows| weight.view.rows(0..*rows).ok()) {
                    weight.view = cut;
                }
                fitting.push((weight, share));
            }
        }
    }
    (fitting, others)
}

/// The mean of `weights`; `None` of none.
pub(super) fn mean(weights: Vec<(Weight, f64)>, lora_dtype: Option<Dtype>) -> Option<Expr> {
    let inputs: Vec<Expr> = weights.iter().map(|(weight, _)| weight.expr(lora_dtype)).collect();
    let weights = weights.into_iter().map(|(_, share)| share).collect();
    let method = Method::Linear(Linear { weights, normalize: true });
    (!inputs.is_empty()).then_some(Expr::Combine { method, inputs })
}

/// Whether all of `weights` are the same bytes with nothing added.
pub(super) fn all_the_same(weights: &[(Weight, f64)]) -> bool {
    let place = |w: &Weight| (w.view.file.path.clone(), w.view.offset);
    weights.iter().all(|(w, _)| w.lora.is_none())
        && weights.windows(2).all(|pair| place(&pair[0].0) == place(&pair[1].0))
}
