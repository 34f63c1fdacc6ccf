//! The output's `config.json`: that of the base or the first model, with what the merge changes.

use serde_json::{Map, Value, json};

use super::{DenseModels, inputs::ResolvedSlice, tensors::Planned};
use crate::{
    error::Result,
    model::{named_model::NamedModel, token_tensors::TIED_HEADS},
    recipe::DenseRecipe,
};

/// Keys that change what a model computes, and are not seen in its tensors' shapes.
const BEHAVIOUR: [&str; 12] = [
    "model_type",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "rms_norm_eps",
    "layer_norm_eps",
    "hidden_act",
    "sliding_window",
    "num_attention_heads",
    "num_key_value_heads",
    "final_logit_softcapping",
    "attn_logit_softcapping",
];

/// The config of the output.
pub fn merged(
    recipe: &DenseRecipe,
    lead: &NamedModel,
    planned: &Planned,
    slices: &[ResolvedSlice<'_>],
    layers: Option<usize>,
) -> Result<Map<String, Value>> {
    let mut config = lead.config.clone();
    if let Some(dtype) = recipe.out_dtype.or(recipe.dtype).and_then(moerge_checkpoint::Dtype::torch_name) {
        set_dtype(&mut config, dtype);
    }
    let has_head = TIED_HEADS.iter().any(|(head, _)| lead.get(head).is_some());
    if planned.head && lead.ties_head().unwrap_or(!has_head) {
        set_everywhere(&mut config, "tie_word_embeddings", &json!(false));
        config.insert("tie_word_embeddings".into(), json!(false));
    }
    if let Some(rows) = planned.vocabulary {
        set_everywhere(&mut config, "vocab_size", &json!(rows));
    }
    if let Some(layers) = layers {
        let stack = lead.main_stack().unwrap_or_default();
        let before = lead.layers_of(stack);
        for (path, _) in lead.layer_keys().into_iter().filter(|(_, count)| *count == Some(before)) {
            if let [parents @ .., key] = path.as_slice() {
                let inner = parents.iter().try_fold(&mut config, |config, key| config.get_mut(*key)?.as_object_mut());
                if let Some(inner) = inner {
                    inner.insert((*key).to_owned(), json!(layers));
                    cut_lists(inner, before, slices);
                }
            }
        }
    }
    Ok(config)
}

/// Sets the type under whichever key the config has, and under transformers' where it has none.
fn set_dtype(config: &mut Map<String, Value>, dtype: &str) {
    let keys: Vec<&str> = ["dtype", "torch_dtype"].into_iter().filter(|key| config.contains_key(*key)).collect();
    for key in if keys.is_empty() { vec!["torch_dtype"] } else { keys } {
        config.insert(key.to_owned(), json!(dtype));
    }
    for part in config.values_mut().filter_map(Value::as_object_mut) {
        for key in ["dtype", "torch_dtype"] {
            if part.get(key).is_some_and(Value::is_string) {
                part.insert(key.to_owned(), json!(dtype));
            }
        }
    }
}

/// Sets `key` at the top and in the text part, where it is there already.
fn set_everywhere(config: &mut Map<String, Value>, key: &str, value: &Value) {
    if config.contains_key(key) {
        config.insert(key.to_owned(), value.clone());
    }
    for part in ["text_config", "llm_config", "language_config"] {
        if let Some(part) = config.get_mut(part).and_then(Value::as_object_mut)
            && part.contains_key(key)
        {
            part.insert(key.to_owned(), value.clone());
        }
    }
}

/// Lists with an entry for each layer follow the slices.
fn cut_lists(config: &mut Map<String, Value>, before: usize, slices: &[ResolvedSlice<'_>]) {
    let layers: Vec<usize> = slices.iter().filter_map(|s| s.inputs.first()?.layers.clone()).flatten().collect();
    for (key, value) in config.iter_mut() {
        let Value::Array(list) = value else { continue };
        let per_layer = key.starts_with("layer_") || key.contains("layers") || key == "layer_types";
        if list.len() == before && per_layer {
            *list = layers.iter().filter_map(|layer| list.get(*layer).cloned()).collect();
        }
    }
}

/// What the models' configs say differently although their tensors fit.
pub fn differences(models: &DenseModels, lead: usize) -> Vec<String> {
    let lead = &models.0[lead];
    let mut warnings = Vec::new();
    for model in models.0.iter().filter(|model| model.reference != lead.reference) {
        let differ = |key: &&&str| {
            let value = |model: &NamedModel| model.config.get(**key).filter(|v| !v.is_null()).cloned();
            value(lead) != value(model) && (value(lead).is_some() || value(model).is_some())
        };
        let keys: Vec<String> = BEHAVIOUR
            .iter()
            .filter(differ)
            .map(|key| format!("{key} is {}, not {}", shown(model.config.get(*key)), shown(lead.config.get(*key))))
            .collect();
        if !keys.is_empty() {
            warnings.push(format!(
                "{} was configured differently from {}, whose config.json the output has: {}",
                model.reference,
                lead.reference,
                keys.join("; ")
            ));
        }
    }
    warnings
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("absent".to_owned(), |value| crate::suggest::shorten(&value.to_string()))
}
