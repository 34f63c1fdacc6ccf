//! The opened models of a recipe: headers and configs, no weights.

mod adapter;
mod adapter_kind;
mod vocabulary;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value};

use moerge_checkpoint::{Checkpoint, Dtype, ReadStorage, TensorView};

pub use adapter::Adapter;
pub use vocabulary::{Vocabulary, token_without_row};

use crate::{
    error::{Error, Result},
    model::{
        config::ModelConfig,
        families::{Description, Family, LayerRole, Role, RoleTensor},
        files::{ADAPTER_CONFIG, CONFIG, read_text},
        named_tensor::NamedTensor,
        source_files::{OwnedSourceFiles, SourceFiles},
        tokenizer_overrides::TokenizerOverrides,
    },
    ops::{Expr, LoraDelta},
};

const LM_HEAD: &str = "lm_head.weight";

/// A model of a recipe with its adapter.
#[derive(Debug)]
pub struct Source {
    /// The reference, as written in the recipe.
    pub reference: String,
    /// The model's folder.
    pub dir: PathBuf,
    /// Its tensors.
    pub checkpoint: Checkpoint,
    /// Its `config.json`.
    pub config: ModelConfig,
    /// Its family.
    pub family: &'static Family,
    /// Its description.
    pub description: Description,
    /// A LoRA adapter to merge into its weights.
    pub adapter: Option<Adapter>,
    /// What its tokenizer has otherwise than the files in its folder.
    pub overrides: TokenizerOverrides,
    weights: HashMap<Role, Weight>,
    /// The models that it is made of, if an earlier document makes it.
    made_of: Vec<OwnedSourceFiles>,
}

/// A weight of a source.
#[derive(Debug, Clone)]
pub struct Weight {
    /// The stored dtype.
    pub dtype: Dtype,
    /// The stored tensor, or its expression if an earlier document of the recipe makes it.
    pub input: Expr,
    /// The adapter's delta.
    pub lora: Option<LoraDelta>,
}

impl Weight {
    fn stored(view: TensorView, lora: Option<LoraDelta>) -> Self {
        Self { dtype: view.dtype, input: Expr::View(view), lora }
    }

    /// The weight with its adapter merged; the sum is rounded to `round` if given.
    pub fn expr(&self, round: Option<Dtype>) -> Expr {
        let input = self.input.clone();
        match self.lora.clone() {
            Some(delta) => Expr::Lora { input: Box::new(input), delta, round },
            None => input,
        }
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        self.input.shape()
    }

    /// The stored tensor, if it is one.
    pub fn view(&self) -> Option<&TensorView> {
        match &self.input {
            Expr::View(view) => Some(view),
            _ => None,
        }
    }

    /// Its first `rows` rows.
    pub fn first_rows(self, rows: usize) -> Self {
        let mut shape = self.shape().to_vec();
        if shape.first().is_none_or(|all| *all <= rows) {
            return self;
        }
        let cut = self.view().and_then(|view| view.rows(0..rows).ok());
        shape[0] = rows;
        let whole = || Expr::RowMap { input: Box::new(self.input.clone()), map: (0..rows).map(Some).collect(), shape };
        Self { input: cut.map_or_else(whole, Expr::View), ..self }
    }
}

impl Source {
    /// Opens the model in `dir`, optionally with the adapter in `adapter_dir`.
    ///
    /// # Errors
    /// A file is missing or cannot be read, the family is not supported, a tensor is missing or has the wrong shape, or the
    /// adapter does not fit the model.
    pub fn open(
        storage: &Arc<dyn ReadStorage>,
        reference: &str,
        dir: &Path,
        adapter_dir: Option<&Path>,
    ) -> Result<Self> {
        let config_path = dir.join(CONFIG);
        let config = match read_text(storage.as_ref(), &config_path) {
            Ok(text) => ModelConfig::parse(&text, &config_path)?,
            Err(error) => return Err(without_config(storage.as_ref(), dir, error)),
        };
        let family = Family::of(&config)?;
        let description = family.describe(&config)?;
        if description.decoder.experts().is_some() {
            return Err(Error::input(format!(
                "{} ({}) is already a Mixture of Experts",
                config.path.display(),
                family.model_type
            ))
            .hint("the base and the experts of a merge must be dense models"));
        }
        let checkpoint = Checkpoint::open(storage, dir)?;
        let description = description.stored_in(&checkpoint);
        let adapter = adapter_dir.map(|dir| Adapter::open(storage, dir)).transpose()?;
        let mut source = Self {
            reference: reference.to_owned(),
            dir: dir.to_owned(),
            checkpoint,
            config,
            family,
            description,
            adapter,
            overrides: TokenizerOverrides::default(),
            weights: HashMap::new(),
            made_of: Vec::new(),
        };
        for tensor in &source.description.tensors {
            let weight = source.find(tensor)?;
            source.weights.insert(tensor.role, weight);
        }
        source.check_adapter()?;
        Ok(source)
    }

    /// A model that an earlier document of the recipe makes: its config, its tensors by name, and the files of the
    /// models that it is made of. `dir` is the folder of its tokenizer.
    ///
    /// # Errors
    /// Its family cannot be part of an MoE, or tensors that its config requires are missing.
    pub fn made(
        reference: &str,
        dir: &Path,
        config: &Map<String, Value>,
        tensors: &BTreeMap<String, NamedTensor>,
        made_of: Vec<OwnedSourceFiles>,
    ) -> Result<Self> {
        let path = dir.join(CONFIG);
        let text = serde_json::to_string(config).unwrap_or_default();
        let config = ModelConfig::parse(&text, &path)?;
        let family = Family::of(&config)?;
        let mut description = family.describe(&config)?;
        if description.decoder.experts().is_some() {
            return Err(Error::input(format!("{reference} is already a Mixture of Experts"))
                .hint("the base and the experts of a merge must be dense models"));
        }
        if let Some(head) = tensors.get(LM_HEAD).filter(|_| description.decoder.tied_embeddings) {
            description.add_head(head.shape());
        }
        let mut weights = HashMap::new();
        for tensor in &description.tensors {
            let stored = tensors.get(&tensor.name).ok_or_else(|| {
                Error::input(format!("{reference} has no tensor {}", tensor.name))
                    .fact("expected", format!("{:?}", tensor.stored_shape()))
            })?;
            if stored.shape() != tensor.stored_shape() {
                return Err(Error::input(format!("{reference}: {} has the wrong shape", tensor.name))
                    .fact("expected", format!("{:?}, from config.json", tensor.stored_shape()))
                    .fact("found", format!("{:?}", stored.shape())));
            }
            let input = match tensor.part_of {
                None => stored.expr.clone(),
                Some(_) => Expr::RowMap {
                    input: Box::new(stored.expr.clone()),
                    map: tensor.rows().map(Some).collect(),
                    shape: tensor.shape.clone(),
                },
            };
            weights.insert(tensor.role, Weight { dtype: stored.dtype, input, lora: None });
        }
        Ok(Self {
            reference: reference.to_owned(),
            dir: dir.to_owned(),
            checkpoint: Checkpoint::without_files(dir),
            config,
            family,
            description,
            adapter: None,
            overrides: TokenizerOverrides::default(),
            weights,
            made_of,
        })
    }

    /// The weight of a role; a tied head is the embeddings.
    pub fn weight(&self, role: Role) -> Option<&Weight> {
        let tied = (role == Role::LmHead && self.description.decoder.tied_embeddings).then_some(Role::Embeddings);
        self.weights.get(&tied.unwrap_or(role))
    }

    /// All weights with their roles.
    pub fn weights_by_role(&self) -> impl Iterator<Item = (Role, &Weight)> {
        self.weights.iter().map(|(role, weight)| (*role, weight))
    }

    /// All weights.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.weights.values()
    }

    /// The checkpoints of the model and of its adapter, or of the models that it is made of.
    pub fn checkpoints(&self) -> impl Iterator<Item = &Checkpoint> {
        self.files().into_iter().flat_map(|files| files.checkpoints().collect::<Vec<_>>())
    }

    /// Its files, or those of the models that it is made of.
    pub fn files(&self) -> Vec<SourceFiles<'_>> {
        if !self.made_of.is_empty() {
            return self.made_of.iter().map(OwnedSourceFiles::files).collect();
        }
        vec![SourceFiles {
            reference: &self.reference,
            dir: &self.dir,
            checkpoint: &self.checkpoint,
            adapter: self.adapter.as_ref().map(|a| (a.dir.as_path(), &a.checkpoint)),
        }]
    }

    /// The name of the model without its path.
    pub fn short_name(&self) -> &str {
        let end = |text: &'_ str| text.trim_end_matches(['/', '\\']).len();
        let reference = &self.reference[..end(&self.reference)];
        reference.rsplit(['/', '\\']).next().unwrap_or(reference)
    }

    /// Refuses an adapter with more than A and B for one of the `used` weights.
    ///
    /// # Errors
    /// It has more, or changes a tied head by itself.
    pub fn check_adapter_is_whole(&self, used: impl Fn(Role) -> bool) -> Result<()> {
        let Some(adapter) = &self.adapter else { return Ok(()) };
        let mut tensors = self.description.tensors.iter().filter(|tensor| used(tensor.role));
        tensors.try_for_each(|tensor| adapter.check_whole(&tensor.name))?;
        // A tied head is not a tensor of the model, but an adapter can change it separately from the embeddings.
        if self.description.decoder.tied_embeddings && used(Role::Embeddings) {
            adapter.check_whole(LM_HEAD)?;
            if adapter.adapts(LM_HEAD) {
                return Err(adapter.refuse_tied_head());
            }
        }
        Ok(())
    }

    /// Checks that every tensor of the adapter belongs to a module of the model; otherwise it was trained on another
    /// model.
    fn check_adapter(&self) -> Result<()> {
        let Some(adapter) = &self.adapter else { return Ok(()) };
        let tensors = &self.description.tensors;
        let mut own: HashSet<String> =
            tensors.iter().flat_map(|t| unfused_name(t).into_iter().chain([t.name.clone()])).collect();
        own.insert(LM_HEAD.to_owned());
        let pairs: Vec<&str> = adapter.adapted().filter(|name| !own.contains(*name)).collect();
        let modules: HashSet<&str> = own.iter().map(|name| module(name)).collect();
        let in_a_module = |name: &str| name.match_indices('.').any(|(dot, _)| modules.contains(&name[..dot]));
        let others: Vec<String> = adapter.others().filter(|name| !in_a_module(name)).collect();
        let all = adapter.adapted().count();
        let dir = adapter.dir.display();
        let (message, first) = match (pairs.first(), others.first()) {
            (Some(first), _) if pairs.len() == all => {
                (format!("the adapter in {dir} changes no weight of this model"), (*first).to_owned())
            }
            (Some(first), _) => {
                let missing = pairs.len();
                (
                    format!("the adapter in {dir} changes {all} weights, {missing} of which this model lacks"),
                    (*first).to_owned(),
                )
            }
            (None, Some(first)) => {
                (format!("the adapter in {dir} has tensors of modules that this model lacks"), first.clone())
            }
            (None, None) => return self.check_fused_adapter(adapter),
        };
        let known = tensors.iter().find(|t| matches!(t.role, Role::Layer(..)));
        Err(Error::input(message)
            .fact("model", self.dir.display().to_string())
            .fact("the adapter changes", first)
            .fact("the model has", known.map_or("no layer", |t| t.name.as_str()))
            .hint("use it with the model that its adapter_config.json names as base_model_name_or_path"))
    }

    /// A fused weight is adapted as a whole or part by part, but not both: PEFT makes no such adapters.
    fn check_fused_adapter(&self, adapter: &Adapter) -> Result<()> {
        let twice = |t: &&RoleTensor| adapter.adapts(&t.name) && unfused_name(t).is_some_and(|n| adapter.adapts(&n));
        match self.description.tensors.iter().find(twice) {
            Some(tensor) => {
                let message =
                    format!("the adapter in {} changes a part of {} twice", adapter.dir.display(), tensor.name);
                Err(Error::input(message).fact("also", unfused_name(tensor).unwrap_or_default()))
            }
            None => Ok(()),
        }
    }

    fn find(&self, tensor: &RoleTensor) -> Result<Weight> {
        let view = tensor.find(&self.checkpoint)?;
        let Some(adapter) = &self.adapter else { return Ok(Weight::stored(view, None)) };
        let mut lora = adapter.delta(&tensor.name, &tensor.stored_shape(), tensor.rows())?;
        if let (None, Some(own)) = (&lora, unfused_name(tensor)) {
            lora = adapter.delta(&own, &tensor.shape, 0..tensor.shape.first().copied().unwrap_or(0))?;
        }
        Ok(Weight::stored(view, lora))
    }
}

/// The module of a weight or bias.
fn module(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(module, _)| module)
}

/// The name of a part of a fused weight if it were stored separately: `q_proj` of `qkv_proj`. Adapters that were
/// trained on that layout fit the part's rows.
fn unfused_name(tensor: &RoleTensor) -> Option<String> {
    tensor.part_of.as_ref()?;
    let own = match tensor.role {
        Role::Layer(_, LayerRole::Attention(projection)) => projection.to_string(),
        Role::Layer(_, LayerRole::Ffn(matrix)) => matrix.to_string(),
        _ => return None,
    };
    let (module, _) = tensor.name.strip_suffix(".weight")?.rsplit_once('.')?;
    Some(format!("{module}.{own}.weight"))
}

fn without_config(storage: &dyn ReadStorage, dir: &Path, error: Error) -> Error {
    let names = storage.list(dir).unwrap_or_default();
    let has = |wanted: &str| names.iter().any(|n| n == wanted);
    if names.is_empty() || has(CONFIG) {
        return error;
    }
    let refused = Error::input(format!("{} has no config.json", dir.display()));
    if has(ADAPTER_CONFIG) {
        return refused.hint("it holds a LoRA adapter: write `model+adapter`, with the model it was trained on");
    }
    refused.hint("a model folder has config.json beside its .safetensors files")
}
