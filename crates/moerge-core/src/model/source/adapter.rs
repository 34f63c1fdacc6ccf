//! A PEFT LoRA adapter: `scale * B A` for each adapted weight.
//!
//! Hu et al., arXiv 2106.09685; the scale is `alpha / r`, or `alpha / sqrt(r)` for rsLoRA (arXiv 2312.03732). Names and
//! per-module patterns are those of PEFT's `adapter_config.json`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_checkpoint::{Checkpoint, ReadStorage, TensorView};
use serde_json::{Map, Value};

use super::adapter_kind;
use crate::{
    error::{Error, Result},
    model::files::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, parse_object, read_text},
    ops::LoraDelta,
};

/// Advice for an adapter with more than `scale * B A`.
const MERGE_FIRST: &str =
    "merge it into its model first (PEFT's `merge_and_unload`), and use the merged model as the expert";

/// PEFT's prefix of module names.
const PREFIX: &str = "base_model.model.";

/// An opened adapter.
#[derive(Debug)]
pub struct Adapter {
    /// Its folder.
    pub dir: PathBuf,
    /// Its tensors.
    pub checkpoint: Checkpoint,
    config: Map<String, Value>,
    /// A and B by the name of the adapted tensor.
    pairs: BTreeMap<String, (TensorView, TensorView)>,
    /// Adapted embeddings, whose A and B are stored transposed.
    embeddings: BTreeSet<String>,
    /// Other tensors.
    pub others: BTreeSet<String>,
}

/// Refuses values that would silently count as absent: a number in quotes, a flag that is not a boolean.
fn check_types(config: &Map<String, Value>, path: &Path) -> Result<()> {
    let wrong = |key: &str, expected: &str, found: &Value| {
        Err(Error::input(format!("{}: `{key}` is not {expected}", path.display()))
            .fact("found", found.to_string())
            .hint("PEFT writes this file; take it from where the adapter comes from"))
    };
    let given = |key: &str| config.get(key).filter(|value| !value.is_null());
    for key in ["r", "lora_alpha"] {
        if let Some(value) = config.get(key).filter(|value| !value.as_f64().is_some_and(|x| (x as f32).is_finite())) {
            return wrong(key, "a number", value);
        }
    }
    if let Some(value) = given("use_rslora").filter(|value| !value.is_boolean()) {
        return wrong("use_rslora", "true or false", value);
    }
    for key in ["rank_pattern", "alpha_pattern"] {
        let numbers = |value: &Value| value.as_object().is_some_and(|of| of.values().all(Value::is_number));
        if let Some(value) = given(key).filter(|value| !numbers(value)) {
            return wrong(key, "an object of numbers", value);
        }
    }
    Ok(())
}

impl Adapter {
    /// Opens the adapter in `dir`.
    ///
    /// # Errors
    /// There is no adapter, it is of a kind that cannot be merged, or its tensors are not pairs of one rank.
    pub fn open(storage: &Arc<dyn ReadStorage>, dir: &Path) -> Result<Self> {
        let config_path = dir.join(ADAPTER_CONFIG);
        let text = read_text(storage.as_ref(), &config_path)
            .map_err(|e| e.hint("a PEFT adapter folder has adapter_config.json and adapter_model.safetensors"))?;
        let config = parse_object(text.as_bytes(), &config_path)?;
        let refuse = |what: &str, hint: &str| Error::input(format!("{}: {what}", config_path.display())).hint(hint);
        let merge_first = MERGE_FIRST;
        match config.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            found => {
                let found = found.unwrap_or("missing");
                return Err(refuse(&format!("`peft_type` is {found}, only LORA adapters are merged"), merge_first));
            }
        }
        adapter_kind::check(&config).map_err(|why| refuse(&why, merge_first))?;
        let weights = ADAPTER_WEIGHTS.map(|name| dir.join(name));
        // If there is none, the error names the first.
        let found = weights.iter().find(|path| storage.facts(path).is_ok()).unwrap_or(&weights[0]);
        let checkpoint = Checkpoint::open_file(storage, found)?;
        check_types(&config, &config_path)?;
        let (pairs, embeddings, others) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut adapter = Self { dir: dir.to_owned(), checkpoint, config, pairs, embeddings, others };
        adapter.pair_up()?;
        if adapter.pairs.is_empty() && adapter.others.is_empty() {
            return Err(Error::input(format!("the adapter in {} changes no weight: it has no tensors", dir.display()))
                .fact("file", found.display().to_string())
                .hint("save the adapter again with PEFT's `save_pretrained`"));
        }
        Ok(adapter)
    }

    /// Its ranks and alpha, for display.
    pub fn numbers(&self) -> String {
        let rank = |(name, (a, _)): (&String, &(TensorView, TensorView))| {
            a.shape.get(usize::from(self.embeddings.contains(name))).copied()
        };
        let ranks: BTreeSet<usize> = self.pairs.iter().filter_map(rank).collect();
        let ranks: Vec<String> = ranks.iter().map(usize::to_string).collect();
        let alpha = self.number("lora_alpha").unwrap_or(8.0);
        let own = |key: &str| self.config.get(key).and_then(Value::as_object).is_some_and(|of| !of.is_empty());
        let some = if own("alpha_pattern") { ", others for some weights" } else { "" };
        let rs = if self.config.get("use_rslora").and_then(Value::as_bool) == Some(true) { ", rsLoRA" } else { "" };
        format!("{} weights, rank {}, alpha {alpha}{some}{rs}", self.pairs.len(), ranks.join(" and "))
    }

    /// Names of its other tensors, in terms of the model: a bias, or a whole weight of `modules_to_save`.
    pub fn others(&self) -> impl Iterator<Item = String> {
        self.others.iter().map(|name| {
            let name = name.strip_prefix(PREFIX).unwrap_or(name);
            name.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".")
        })
    }

    /// Names of the weights that the adapter changes.
    pub fn adapted(&self) -> impl Iterator<Item = &str> {
        self.pairs.keys().map(String::as_str)
    }

    /// Refuses a tensor that changes `weight` in another way than by `scale * B A`: a bias, or a whole weight of
    /// `modules_to_save`. Ignoring it would silently give a wrong weight.
    ///
    /// # Errors
    /// There is such a tensor.
    pub fn check_whole(&self, weight: &str) -> Result<()> {
        let module = weight.strip_suffix(".weight").unwrap_or(weight);
        let of_module = |name: &str| name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'));
        let unknown = self.pairs.keys().filter(|name| *name != weight);
        match self.others().chain(unknown.cloned()).find(|name| of_module(name)) {
            Some(name) => Err(Error::input(format!("the adapter in {} has {name}", self.dir.display()))
                .fact("changes", weight)
                .fact("expected", "lora_A.weight and lora_B.weight only")
                .hint(MERGE_FIRST)),
            None => Ok(()),
        }
    }

    /// The error for an adapted head that is tied to the embeddings.
    pub(super) fn refuse_tied_head(&self) -> Error {
        Error::input(format!("the adapter in {} changes lm_head, which is tied to the embeddings", self.dir.display()))
            .hint(MERGE_FIRST)
    }

    /// Whether it has A and B for tensor `name`.
    pub fn adapts(&self, name: &str) -> bool {
        self.pairs.contains_key(name)
    }

    /// What the adapter adds to rows `rows` of tensor `name` of shape `shape`.
    ///
    /// # Errors
    /// The pair does not fit `shape`, or a key of `alpha_pattern` is not a regular expression.
    pub fn delta(&self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<Option<LoraDelta>> {
        let Some((a, b)) = self.pairs.get(name) else { return Ok(None) };
        let transposed = self.embeddings.contains(name);
        // The dimension of A or B that is not the rank.
        let outer = |view: &TensorView, at: usize| view.shape[if transposed { 1 - at } else { at }];
        let rank = a.shape[usize::from(transposed)];
        if shape.len() != 2 || outer(a, 1) != shape[1] || outer(b, 0) != shape[0] {
            return Err(Error::input(format!("adapter {} does not fit its model: {name}", self.dir.display()))
                .fact("weight", format!("{shape:?}"))
                .fact(factor_name(&a.name), format!("{:?}", a.shape))
                .fact(factor_name(&b.name), format!("{:?}", b.shape))
                .hint("an adapter only fits the model it was trained on"));
        }
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let alpha = self.pattern("alpha_pattern", module)?.or(self.number("lora_alpha")).unwrap_or(8.0);
        let rs = self.config.get("use_rslora").and_then(Value::as_bool) == Some(true);
        let scale = alpha / if rs { (rank as f64).sqrt() } else { rank as f64 };
        // Embeddings are never a part of a fused weight, so all of their rows are meant.
        let b = if transposed { b.clone() } else { b.rows(rows)? };
        Ok(Some(LoraDelta { a: a.clone(), b, scale, transposed }))
    }

    fn pair_up(&mut self) -> Result<()> {
        let mut halves: BTreeMap<String, [Option<TensorView>; 2]> = BTreeMap::new();
        for view in self.checkpoint.tensors() {
            if view.name.contains("lora_magnitude_vector") {
                return Err(Error::input(format!("{} is a DoRA adapter ({})", self.dir.display(), view.name))
                    .hint("merge it into its model first, and use the merged model as the expert"));
            }
            let name = view.name.strip_prefix(PREFIX).unwrap_or(&view.name);
            let (Some((half, embeddings)), 2) = (half(name), view.shape.len()) else {
                self.others.insert(view.name.clone());
                continue;
            };
            let module = name.split(".lora_").next().unwrap_or(name);
            let weight = format!("{module}.weight");
            if embeddings {
                self.embeddings.insert(weight.clone());
            }
            halves.entry(weight).or_default()[half] = Some(view.clone());
        }
        for (name, pair) in halves {
            let [Some(a), Some(b)] = pair else {
                return Err(Error::input(format!("adapter {} has only one half of {name}", self.dir.display()))
                    .fact("expected", "lora_A and lora_B"));
            };
            let ranks =
                if self.embeddings.contains(&name) { (a.shape[1], b.shape[0]) } else { (a.shape[0], b.shape[1]) };
            let declared = self.pattern("rank_pattern", name.trim_end_matches(".weight"))?.or(self.number("r"));
            if ranks.0 != ranks.1 || ranks.0 == 0 || declared.is_some_and(|r| r != ranks.0 as f64) {
                return Err(Error::input(format!("adapter {}: the ranks of {name} do not agree", self.dir.display()))
                    .fact(factor_name(&a.name), format!("{:?}", a.shape))
                    .fact(factor_name(&b.name), format!("{:?}", b.shape))
                    .fact(ADAPTER_CONFIG, declared.map_or("no rank".into(), |r| format!("rank {r}"))));
            }
            self.pairs.insert(name, (a, b));
        }
        Ok(())
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.config.get(key).and_then(Value::as_f64)
    }

    /// The value of a `*_pattern` whose key matches `module` by PEFT's rule: the whole name, or a suffix after a dot.
    fn pattern(&self, key: &str, module: &str) -> Result<Option<f64>> {
        let Some(Value::Object(patterns)) = self.config.get(key) else { return Ok(None) };
        for (pattern, value) in patterns {
            let regex = regex_lite::Regex::new(&format!("^(?:.*\\.)?(?:{pattern})$")).map_err(|e| {
                Error::input(format!("{}: `{key}` has the pattern {pattern:?}: {e}", self.dir.display()))
            })?;
            if regex.is_match(module) {
                return Ok(value.as_f64());
            }
        }
        Ok(None)
    }
}

/// Which factor of a weight a tensor is, and whether of embeddings: 0 for A and 1 for B, and the other way round for
/// embeddings, whose `lora_embedding_B` has the columns of the weight.
fn half(name: &str) -> Option<(usize, bool)> {
    let ends = |mark: &str, ends: [&str; 2]| name.split_once(mark).is_some_and(|(_, end)| ends.contains(&end));
    let linear = [".lora_A", ".lora_B"].iter().position(|mark| ends(mark, [".weight", ".default.weight"]));
    let of_embeddings =
        || [".lora_embedding_B", ".lora_embedding_A"].iter().position(|mark| ends(mark, ["", ".default"]));
    linear.map(|half| (half, false)).or_else(|| Some((of_embeddings()?, true)))
}

/// `lora_A`, as the file calls it.
fn factor_name(tensor: &str) -> &str {
    let name = tensor.trim_end_matches(".weight").trim_end_matches(".default");
    name.rsplit('.').next().unwrap_or(name)
}
