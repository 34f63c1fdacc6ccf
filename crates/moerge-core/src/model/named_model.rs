//! A model as tensors by name, for merges that need not know its architecture: encoders, vision towers, Mamba, Mixtures
//! of Experts, and future families.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_checkpoint::{Checkpoint, Dtype, ReadStorage, TensorView};
use serde_json::{Map, Value};

use super::{
    files::{CONFIG, parse_object, read_text},
    foreign_weights::{UNQUANTISED, quantised},
    named_tensor::NamedTensor,
    source::Adapter,
    source_files::{OwnedSourceFiles, SourceFiles},
    tokenizer_overrides::TokenizerOverrides,
};
use crate::{
    error::{Error, Result},
    ops::Expr,
};

/// Keys of the number of layers in `config.json`, in order of preference.
const LAYER_KEYS: [&str; 6] =
    ["num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers", "encoder_layers"];
/// Objects of `config.json` that describe the text part of a multimodal model.
const TEXT_PARTS: [&str; 3] = ["text_config", "llm_config", "language_config"];

/// An opened model, or one that an earlier document of the recipe makes: its tensors and its `config.json`, no weights.
#[derive(Debug, Clone)]
pub struct NamedModel {
    /// The reference, as written in the recipe.
    pub reference: String,
    /// The folder of its tokenizer.
    pub dir: PathBuf,
    /// Its `config.json`.
    pub config: Map<String, Value>,
    /// Its tensors, with the adapter merged.
    pub tensors: BTreeMap<String, NamedTensor>,
    /// What its tokenizer has otherwise than the files in its folder.
    pub overrides: TokenizerOverrides,
    files: Vec<OwnedSourceFiles>,
    stacks: BTreeMap<String, usize>,
}

/// The layer of a tensor: `model.layers.3.mlp.up_proj.weight` is in layer 3 of the stack `model.layers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerPlace<'a> {
    /// The name before the number, without the dot.
    pub stack: &'a str,
    /// The number.
    pub layer: usize,
    /// The name after the number, without the dot.
    pub rest: &'a str,
}

impl<'a> LayerPlace<'a> {
    /// The first number between dots in `name`; `None` for a tensor outside of layers.
    pub fn of(name: &'a str) -> Option<Self> {
        let mut start = 0;
        for part in name.split('.') {
            let end = start + part.len();
            let number = !part.is_empty() && part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit());
            if number && start > 0 && end < name.len() {
                let layer = part.parse().ok()?;
                return Some(Self { stack: &name[..start - 1], layer, rest: &name[end + 1..] });
            }
            start = end + 1;
        }
        None
    }

    /// The same tensor of another layer.
    pub fn name_in(&self, layer: usize) -> String {
        format!("{}.{layer}.{}", self.stack, self.rest)
    }
}

impl NamedModel {
    /// Opens the model in `dir`, optionally with the adapter in `adapter_dir`. Adapted weights are rounded to
    /// `lora_dtype` if given.
    ///
    /// # Errors
    /// The folder contains no model, its weights are quantised, or the adapter changes weights that the model does not
    /// have.
    pub fn open(
        storage: &Arc<dyn ReadStorage>,
        reference: &str,
        dir: &Path,
        adapter_dir: Option<&Path>,
        lora_dtype: Option<Dtype>,
    ) -> Result<Self> {
        let path = dir.join(CONFIG);
        let text = read_text(storage.as_ref(), &path)
            .map_err(|e| e.hint("a model folder has config.json beside its weights"))?;
        let config = parse_object(text.as_bytes(), &path)?;
        let checkpoint = Checkpoint::open(storage, dir)?;
        if config.get("quantization_config").is_some_and(|v| !v.is_null()) {
            let message = format!("{}: its weights are quantised (`quantization_config`)", path.display());
            return Err(Error::input(message).hint("use the model that it was quantised from").unsupported());
        }
        if let Some(why) = quantised(&checkpoint) {
            return Err(Error::input(format!("{}: {why}", dir.display())).hint(UNQUANTISED));
        }
        let adapter = adapter_dir.map(|dir| Adapter::open(storage, dir)).transpose()?;
        if let Some(adapter) = &adapter {
            check_adapter(adapter, |name| checkpoint.get(name).is_some(), dir.display().to_string())?;
        }
        let tensor = |view: &TensorView| {
            let expr = adapted(&view.name, Expr::View(view.clone()), adapter.as_ref(), lora_dtype)?;
            Ok((view.name.clone(), NamedTensor { dtype: view.dtype, expr }))
        };
        let tensors = checkpoint.tensors().map(tensor).collect::<Result<_>>()?;
        let adapter = adapter.as_ref().map(|adapter| (adapter.dir.as_path(), &adapter.checkpoint));
        let files = SourceFiles { reference, dir, checkpoint: &checkpoint, adapter }.to_owned();
        Ok(Self::new(reference, dir, config, tensors, vec![files]))
    }

    /// This model with the adapter in `adapter_dir` merged, called `reference`. Adapted weights are rounded to `lora_dtype`
    /// if it is given.
    ///
    /// # Errors
    /// The adapter cannot be read, or changes weights that the model lacks.
    pub fn with_adapter(
        &self,
        storage: &Arc<dyn ReadStorage>,
        reference: &str,
        adapter_dir: &Path,
        lora_dtype: Option<Dtype>,
    ) -> Result<Self> {
        let adapter = Adapter::open(storage, adapter_dir)?;
        check_adapter(&adapter, |name| self.tensors.contains_key(name), self.reference.clone())?;
        let mut model = self.clone();
        reference.clone_into(&mut model.reference);
        for (name, tensor) in &mut model.tensors {
            tensor.expr = adapted(name, tensor.expr.clone(), Some(&adapter), lora_dtype)?;
        }
        let name = reference.rsplit_once('+').map_or(reference, |(_, adapter)| adapter);
        let files = SourceFiles { reference: name, dir: adapter_dir, checkpoint: &adapter.checkpoint, adapter: None };
        model.files.push(files.to_owned());
        Ok(model)
    }

    /// A model with these tensors, read from `files`.
    pub fn new(
        reference: &str,
        dir: &Path,
        config: Map<String, Value>,
        tensors: BTreeMap<String, NamedTensor>,
        files: Vec<OwnedSourceFiles>,
    ) -> Self {
        let mut stacks: BTreeMap<String, usize> = BTreeMap::new();
        for place in tensors.keys().filter_map(|name| LayerPlace::of(name)) {
            let layers = stacks.entry(place.stack.to_owned()).or_default();
            *layers = (*layers).max(place.layer + 1);
        }
        let (reference, dir) = (reference.to_owned(), dir.to_owned());
        Self { reference, dir, config, tensors, overrides: TokenizerOverrides::default(), files, stacks }
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&NamedTensor> {
        self.tensors.get(name)
    }

    /// The number of layers of `stack`; 0 if the model has no such stack.
    pub fn layers_of(&self, stack: &str) -> usize {
        self.stacks.get(stack).copied().unwrap_or(0)
    }

    /// The stack whose layers `config.json` counts, else the deepest one; `None` for a model without layers.
    pub fn main_stack(&self) -> Option<&str> {
        let counted = self.layer_keys().first().and_then(|(_, layers)| *layers);
        let deepest = self.stacks.iter().max_by_key(|(name, layers)| (**layers, std::cmp::Reverse(name.len())));
        let of_config = self.stacks.iter().filter(|(_, layers)| Some(**layers) == counted);
        // Of several stacks of this depth, the language model's has the shortest name.
        let of_config = of_config.min_by_key(|(name, _)| name.len());
        of_config.or(deepest).map(|(name, _)| name.as_str())
    }

    /// The keys of `config.json` that count layers, as paths, with their values.
    pub fn layer_keys(&self) -> Vec<(Vec<&'static str>, Option<usize>)> {
        let count = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        let own = LAYER_KEYS.iter().filter_map(|key| Some((vec![*key], count(self.config.get(*key)?))));
        let of_text = TEXT_PARTS.iter().filter_map(|part| Some((*part, self.config.get(*part)?.as_object()?)));
        let of_text = of_text.flat_map(|(part, config)| {
            LAYER_KEYS.iter().filter_map(move |key| Some((vec![part, *key], count(config.get(*key)?))))
        });
        own.chain(of_text).collect()
    }

    /// Whether `config.json` ties the head to the embeddings; `None` if the key is absent.
    pub fn ties_head(&self) -> Option<bool> {
        let of_text =
            TEXT_PARTS.iter().find_map(|part| self.config.get(*part)?.as_object()?.get("tie_word_embeddings"));
        self.config.get("tie_word_embeddings").or(of_text).and_then(Value::as_bool)
    }

    /// Its files, or those of the models that it is made of.
    pub fn files(&self) -> Vec<SourceFiles<'_>> {
        self.files.iter().map(OwnedSourceFiles::files).collect()
    }
}

/// The tensor `name`, with the adapter merged.
fn adapted(name: &str, input: Expr, adapter: Option<&Adapter>, round: Option<Dtype>) -> Result<Expr> {
    let Some(adapter) = adapter else { return Ok(input) };
    adapter.check_whole(name)?;
    let delta = adapter.delta(name, input.shape(), 0..input.shape().first().copied().unwrap_or(0))?;
    Ok(match delta {
        Some(delta) => Expr::Lora { input: Box::new(input), delta, round },
        None => input,
    })
}

/// Checks that every pair of the adapter changes a tensor of the model.
fn check_adapter(adapter: &Adapter, has: impl Fn(&str) -> bool, model: String) -> Result<()> {
    let unmatched: BTreeSet<&str> = adapter.adapted().filter(|name| !has(name)).collect();
    let Some(first) = unmatched.first() else { return Ok(()) };
    let count = match unmatched.len() {
        1 => "a weight".to_owned(),
        several => format!("{several} weights"),
    };
    let message = format!("the adapter in {} changes {count} that its model lacks", adapter.dir.display());
    Err(Error::input(message)
        .fact("model", model)
        .fact("the adapter changes", *first)
        .hint("use it with the model that its adapter_config.json names as base_model_name_or_path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_between_dots_is_the_layer() {
        let place = LayerPlace::of("model.layers.3.mlp.experts.7.w1.weight").unwrap();
        assert_eq!((place.stack, place.layer, place.rest), ("model.layers", 3, "mlp.experts.7.w1.weight"));
        assert_eq!(place.name_in(12), "model.layers.12.mlp.experts.7.w1.weight");
        let place = LayerPlace::of("h.0.attn.c_attn.weight").unwrap();
        assert_eq!((place.stack, place.layer), ("h", 0));
        for name in ["lm_head.weight", "model.norm.weight", "0.weight", "layers.3", "a.9999999.b", ""] {
            assert_eq!(LayerPlace::of(name), None, "{name}");
        }
    }
}
