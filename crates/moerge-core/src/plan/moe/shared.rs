//! The shared weights (attention, norms, embeddings, head): those of the base, the mean of the experts, or a merge.

use super::{Models, attention};
use crate::{
    error::{Error, Result},
    model::{
        families::{Role, RoleTensor},
        source::Weight,
    },
    ops::{Base, Expr, Linear, ParameterSpec, Scope, Sort, Values},
    recipe::{Expert, Recipe, SharedMerge},
};
use moerge_checkpoint::Dtype;

/// A weight of an expert that contributes to a shared weight.
pub(super) struct ExpertWeight {
    /// The weight, truncated to the base's number of rows.
    pub weight: Weight,
    /// The expert's index.
    pub expert: usize,
    /// Its weight in the mean.
    pub share: f64,
}

/// The experts' weights of `tensor`, and the indices of experts whose shape or kind of attention differs from the
/// base's. Extra rows of an expert's embeddings are cut off. Experts that are not in a layer do not contribute to it.
pub(super) fn experts_weights(
    recipe: &Recipe,
    models: &Models,
    tensor: &RoleTensor,
) -> (Vec<ExpertWeight>, Vec<usize>) {
    let vocabulary = matches!(tensor.role, Role::Embeddings | Role::LmHead);
    let (mut fitting, mut others) = (Vec::new(), Vec::new());
    let here = |expert: &&Expert| match (&expert.layers, tensor.role) {
        (Some(layers), Role::Layer(layer, _)) => layers.contains(layer),
        _ => true,
    };
    for (index, expert) in recipe.experts.iter().enumerate().filter(|(_, expert)| here(expert)) {
        let share = expert.shared_weight.unwrap_or(1.0);
        let fits = |weight: &Weight| {
            let (rows, wanted) = (weight.shape().first(), tensor.shape.first());
            let same_rows = if vocabulary { rows >= wanted } else { rows == wanted };
            same_rows && weight.shape().get(1..) == tensor.shape.get(1..)
        };
        let source = models.expert(index);
        let means_the_same = attention::differences(models.base(), source).is_empty();
        match source.weight(tensor.role).filter(|w| means_the_same && fits(w)) {
            _ if share == 0.0 => {}
            None => others.push(index),
            Some(weight) => {
                let rows = tensor.shape.first().copied().unwrap_or(usize::MAX);
                let weight = weight.clone().first_rows(rows);
                fitting.push(ExpertWeight { weight, expert: index, share });
            }
        }
    }
    (fitting, others)
}

/// The mean of `weights`; `None` if there are none.
pub(super) fn mean(weights: Vec<ExpertWeight>, lora_dtype: Option<Dtype>) -> Option<Expr> {
    let inputs: Vec<Expr> = weights.iter().map(|w| w.weight.expr(lora_dtype)).collect();
    let weights = weights.into_iter().map(|w| w.share).collect();
    let method = Linear { weights, normalize: true }.into();
    (!inputs.is_empty()).then_some(Expr::Combine { method, inputs })
}

/// `weights` merged by the recipe's method, onto the base's weight if the method has a base; an expert that is the base
/// then changes nothing. `None` if no expert is left.
///
/// # Errors
/// A parameter is missing or out of range, or the method does not accept this number of inputs.
pub(super) fn merged(
    recipe: &Recipe,
    models: &Models,
    merge: &SharedMerge,
    tensor: &RoleTensor,
    mut weights: Vec<ExpertWeight>,
    lora_dtype: Option<Dtype>,
) -> Result<Option<Expr>> {
    let spec = merge.method.value;
    let base = models.base().weight(tensor.role).filter(|_| spec.base != Base::Unused);
    if base.is_some() {
        weights.retain(|w| models.experts.get(w.expert) != Some(&models.base));
    }
    if weights.is_empty() {
        return Ok(None);
    }
    let layers = models.base().config.layers;
    let t = match tensor.role {
        Role::Layer(layer, _) if layers > 1 => layer as f64 / (layers - 1) as f64,
        Role::Layer(..) => 1.0,
        _ => 0.0,
    };
    let of_parameter = |parameter: &ParameterSpec, own: Option<f64>| {
        let setting = merge.parameters.get(parameter.name);
        let value = setting.and_then(|setting| setting.at(&tensor.name, t, parameter.sort == Sort::Flag));
        own.or(value).or(parameter.default).ok_or_else(|| {
            Error::input(format!("`{}` is missing", parameter.name))
                .at(recipe.snippet(&merge.method.span, format!("`{}` needs it", spec.name)))
                .fact("tensor", &tensor.name)
                .hint(format!(
                    "add `parameters: {{{}: 0.5}}` to `shared_weights`, or a `shared_weight` to each expert",
                    parameter.name
                ))
        })
    };
    let values = |parameter: &ParameterSpec| match parameter.scope {
        Scope::Tensor => of_parameter(parameter, None).map(|value| vec![value]),
        Scope::Model => weights
            .iter()
            .map(|w| {
                let own = recipe.experts.get(w.expert).and_then(|e| e.shared_weight);
                of_parameter(parameter, own.filter(|_| parameter.name == "weight"))
            })
            .collect(),
    };
    let values = Values {
        tensor: tensor.name.clone(),
        base: base.is_some(),
        values: spec.parameters.iter().map(values).collect::<Result<_>>()?,
    };
    let method = spec.method(&values);
    let inputs: Vec<Expr> =
        base.into_iter().chain(weights.iter().map(|w| &w.weight)).map(|w| w.expr(lora_dtype)).collect();
    method
        .check(inputs.len())
        .map_err(|error| error.at(recipe.snippet(&merge.method.span, "")).fact("tensor", &tensor.name))?;
    Ok(Some(Expr::Combine { method, inputs }))
}

/// Whether all of `weights` are copies of the same bytes.
pub(super) fn all_the_same(weights: &[ExpertWeight]) -> bool {
    let place = |w: &Weight| w.view().map(|view| (view.file.path.clone(), view.offset));
    weights.iter().all(|w| w.weight.lora.is_none() && w.weight.view().is_some())
        && weights.windows(2).all(|pair| place(&pair[0].weight) == place(&pair[1].weight))
}
