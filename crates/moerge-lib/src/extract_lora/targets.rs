//! Which weights a LoRA can change: the linear layers of attention and FFN, and on request embeddings and head. All else
//! that differs is only named.

use std::collections::{BTreeMap, BTreeSet};

use moerge_core::{
    error::{Error, Result},
    model::{
        named_model::{LayerPlace, NamedModel},
        named_tensor::NamedTensor,
        token_tensors::{has_row_per_token, is_embeddings},
    },
};
use serde_json::Value;

/// Families whose linear layers are stored transposed (`Conv1D`).
const TRANSPOSED: [&str; 4] = ["gpt2", "openai-gpt", "imagegpt", "decision_transformer"];
/// Parts of names of matrices that are no linear layers.
const NOT_LINEAR: [&str; 4] = ["embed", "norm", "relative_attention_bias", "conv"];

/// A weight whose difference is decomposed.
pub(super) struct Target<'a> {
    /// The module, `model.layers.0.self_attn.q_proj`.
    pub module: &'a str,
    /// Whether it is an embedding, whose adapter PEFT stores transposed.
    pub embedding: bool,
    pub model: &'a NamedTensor,
    pub base: &'a NamedTensor,
    /// Rows and columns.
    pub shape: (usize, usize),
}

/// The weights that a LoRA of `base` can change to become `model`, in the order of their names; with `embeddings`, those and
/// the head, too, where both models have as many tokens.
///
/// # Errors
/// The models do not fit each other, or are not dense models of linear layers.
pub(super) fn targets<'a>(
    model: &'a NamedModel,
    base: &'a NamedModel,
    embeddings: bool,
) -> Result<BTreeMap<&'a str, Target<'a>>> {
    if let Some(family) = model.config.get("model_type").and_then(Value::as_str).filter(|f| TRANSPOSED.contains(f)) {
        let message = format!("{}: {family} stores its linear layers transposed", model.reference);
        return Err(Error::input(message).unsupported());
    }
    if let Some(name) = model.tensors.keys().find(|name| name.contains(".experts.")) {
        return Err(Error::input(format!("{} is a Mixture of Experts, not a dense model", model.reference))
            .fact("it has", name.as_str())
            .unsupported());
    }
    let mut targets = BTreeMap::new();
    let mut layers = 0;
    for (name, tensor) in &model.tensors {
        let Some(base) = base.get(name) else { continue };
        let of_tokens = vocabulary(name, tensor).filter(|_| embeddings && base.shape() == tensor.shape());
        if let Some((module, embedding)) = of_tokens {
            let shape = (tensor.shape()[0], tensor.shape()[1]);
            targets.insert(name.as_str(), Target { module, embedding, model: tensor, base, shape });
            continue;
        }
        let Some(module) = linear(name, tensor) else { continue };
        layers += 1;
        if base.shape() != tensor.shape() {
            return Err(Error::input(format!("the models do not fit each other: {name}"))
                .fact("model", format!("{:?}", tensor.shape()))
                .fact("base", format!("{:?}", base.shape()))
                .hint("give the model that this one was fine-tuned from"));
        }
        let shape = (tensor.shape()[0], tensor.shape()[1]);
        targets.insert(name.as_str(), Target { module, embedding: false, model: tensor, base, shape });
    }
    if layers == 0 {
        return Err(Error::input("the models have no linear layers of the same names")
            .fact("model", model.reference.as_str())
            .fact("base", base.reference.as_str())
            .hint("give the model that this one was fine-tuned from"));
    }
    Ok(targets)
}

/// The module of a linear layer's weight.
fn linear<'a>(name: &'a str, tensor: &NamedTensor) -> Option<&'a str> {
    let place = LayerPlace::of(name)?;
    let linear = is_matrix(tensor) && !NOT_LINEAR.iter().any(|part| place.rest.contains(part));
    name.strip_suffix(".weight").filter(|_| linear)
}

/// The module of the embeddings or the head, and whether it is the former.
fn vocabulary<'a>(name: &'a str, tensor: &NamedTensor) -> Option<(&'a str, bool)> {
    let module = name.strip_suffix(".weight").filter(|_| is_matrix(tensor) && LayerPlace::of(name).is_none())?;
    has_row_per_token(name).then(|| (module, is_embeddings(name)))
}

/// Whether it has rows and columns of floats of at least 16 bits.
fn is_matrix(tensor: &NamedTensor) -> bool {
    let matrix = tensor.shape().len() == 2 && tensor.shape().iter().all(|n| *n > 0);
    matrix && tensor.dtype.is_float() && tensor.dtype.size_bits() >= 16
}

/// `target_modules` as PEFT reads it: the last part of a name where all modules of that name are meant, else whole names.
pub(super) fn target_modules(model: &NamedModel, modules: &[&str]) -> Vec<String> {
    fn last(module: &str) -> &str {
        module.rsplit('.').next().unwrap_or(module)
    }
    let wanted: BTreeSet<&str> = modules.iter().copied().collect();
    let of_model = model.tensors.keys().filter_map(|name| name.strip_suffix(".weight"));
    let partial: BTreeSet<&str> = of_model.filter(|module| !wanted.contains(module)).map(last).collect();
    let names: BTreeSet<&str> = modules
        .iter()
        .copied()
        .map(|module| if partial.contains(last(module)) { module } else { last(module) })
        .collect();
    names.into_iter().map(str::to_owned).collect()
}
