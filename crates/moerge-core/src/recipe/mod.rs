//! The recipe: what to make, as the user wrote it, with the place of everything in the text.
//!
//! A mergekit-moe YAML reads unchanged. What mergekit passes over in silence or stumbles over late is an error here, at
//! its line: unknown and doubled keys, values of the wrong kind, empty prompts. A value that is wrong by itself is
//! refused here, where its place is known; rules between values are [`crate::recipe::check`]'s.
//!
//! The YAML is read with a tree of our own over granit-parser's events ([`yaml`]), because errors need the span of
//! every value.

pub mod check;
mod fields;
mod fit_settings;
mod gate_mode;
mod layers;
mod load;
mod located;
mod model_ref_field;
pub mod prompts_file;
mod source;
mod yaml;
mod yaml_error;

use std::{ops::Range, path::PathBuf, sync::Arc};

pub use crate::model::model_ref::{Adapter, ModelRef};
use fields::{Field, Fields};
pub use fit_settings::{FitSettings, Label, PhatGoose, SelfText, SharedWeights};
pub use gate_mode::GateMode;
pub use layers::Layers;
pub use load::read_text;
pub use located::Located;
use model_ref_field::read_model_ref;
use moerge_checkpoint::Dtype;
use source::Source;
use yaml::{Kind, Node};

use crate::{
    error::{Result, Snippet},
    model::families::MoeFamily,
    suggest::{did_you_mean, quoted, shorten},
};

/// What the user wrote.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The file's name as the user gave it.
    pub name: String,
    /// The whole text.
    pub text: Arc<str>,
    /// The model that gives attention, norms, embeddings and tokenizer.
    pub base_model: Located<ModelRef>,
    /// The routed experts, in the order of their numbers.
    pub experts: Vec<Expert>,
    /// Experts that every token goes through.
    pub shared_experts: Vec<Expert>,
    /// How the routers get their weights. Where the recipe does not say: `hidden`, as in mergekit, if there are prompts,
    /// and `self_calibrated` if there are none.
    pub gate_mode: GateMode,
    /// Whether the recipe says so.
    pub gate_mode_given: bool,
    /// How routers are fitted, for the gate modes that are.
    pub fit: FitSettings,
    /// Where attention, norms, embeddings and head come from.
    pub shared_weights: SharedWeights,
    /// The output's type: F32, F16 or BF16; the base's where the recipe does not say.
    pub dtype: Option<Dtype>,
    /// Experts per token; 2 where the recipe does not say.
    pub experts_per_token: Located<usize>,
    /// The MoE family to become. Ask [`Recipe::accepts`], since a name can stand for several.
    pub architecture: Option<Located<&'static MoeFamily>>,
    /// The seed of random gates and noise.
    pub random_seed: Option<u64>,
}

/// A model whose FFN becomes an expert, and what should be routed to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Expert {
    /// Where the FFN comes from.
    pub source_model: Located<ModelRef>,
    /// Texts like those it should see. [`Recipe::load`] adds those of the file.
    pub positive_prompts: Vec<String>,
    /// Texts like those it should not see.
    pub negative_prompts: Vec<String>,
    /// A file of more positive prompts.
    pub positive_prompts_file: Option<Located<PathBuf>>,
    /// A file of more negative prompts.
    pub negative_prompts_file: Option<Located<PathBuf>>,
    /// Text like that it should see, to try the fitted routers on. [`Recipe::load`] adds that of the file.
    pub validation: Vec<String>,
    /// A file of it.
    pub validation_file: Option<Located<PathBuf>>,
    /// The layers that it is limited to; all where the recipe does not say.
    pub layers: Option<Layers>,
    /// What it counts for in `shared_weights: average`: 0 or more; 1 where the recipe does not say.
    pub shared_weight: Option<f64>,
    /// Standard deviation of the normal noise added to its matrices; never negative.
    pub noise_scale: Option<f64>,
    /// Factor on its down projection, after the noise.
    pub residual_scale: Option<f64>,
}

const KEYS: [&str; 13] = [
    "base_model",
    "experts",
    "gate_mode",
    FitSettings::KEYS[0],
    FitSettings::KEYS[1],
    FitSettings::KEYS[2],
    FitSettings::KEYS[3],
    "shared_weights",
    "dtype",
    "experts_per_token",
    "shared_experts",
    "architecture",
    "random_seed",
];

const EXPERT_KEYS: [&str; 10] = [
    "source_model",
    "positive_prompts",
    "negative_prompts",
    "positive_prompts_file",
    "negative_prompts_file",
    "validation",
    "layers",
    "shared_weight",
    "noise_scale",
    "residual_scale",
];

/// The types that an output may have, and what people write for them besides PyTorch's names.
const DTYPES: [(&str, Dtype); 3] = [("bfloat16", Dtype::BF16), ("float16", Dtype::F16), ("float32", Dtype::F32)];
const DTYPE_ALIASES: [(&str, Dtype); 5] =
    [("bf16", Dtype::BF16), ("f16", Dtype::F16), ("fp16", Dtype::F16), ("f32", Dtype::F32), ("fp32", Dtype::F32)];

impl Recipe {
    /// Reads a recipe; `name` is what its file is called in messages. Nothing but `text` is looked at: prompt files are
    /// named in the result, not read ([`Recipe::load`] does).
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let text: Arc<str> = Arc::from(text);
        let source = &Source { name, text: &text };
        let Some(root) = yaml::tree(source)? else {
            return Err(source
                .error("the recipe is empty", 0..0, "")
                .hint("a recipe has a `base_model` and a list of `experts`"));
        };
        refuse_dense_merge(source, &root)?;
        let fields = Fields::open(source, &root, "the recipe", &KEYS)?;
        let base_model = read_model_ref(fields.required("base_model", "add `base_model: org/name`")?, source)?;
        let experts = read_experts(source, fields.required("experts", "add a list of `experts`")?, "expert")?;
        let shared_experts =
            fields.get("shared_experts").map(|f| read_experts(source, f, "shared expert")).transpose()?;
        let gate_mode = fields.get("gate_mode").map(|f| f.one_of(&GateMode::TABLE)).transpose()?;
        let experts_per_token = match fields.get("experts_per_token") {
            Some(field) => {
                let number = field.whole_number()?;
                Located { value: usize::try_from(number).unwrap_or(usize::MAX), span: field.span() }
            }
            None => Located { value: 2, span: 0..0 },
        };
        Ok(Self {
            gate_mode_given: gate_mode.is_some(),
            gate_mode: gate_mode.map_or_else(|| default_mode(&experts), |m| m.value),
            base_model,
            experts,
            shared_experts: shared_experts.unwrap_or_default(),
            fit: FitSettings::read(source, &fields)?,
            shared_weights: fields
                .get("shared_weights")
                .map(|f| f.one_of(&SharedWeights::TABLE))
                .transpose()?
                .map_or(SharedWeights::default(), |s| s.value),
            dtype: fields.get("dtype").map(dtype).transpose()?.flatten(),
            experts_per_token,
            architecture: fields.get("architecture").map(|f| architecture(f, source)).transpose()?.flatten(),
            random_seed: fields.get("random_seed").map(|f| f.whole_number()).transpose()?,
            name: name.to_owned(),
            text: Arc::clone(&text),
        })
    }

    /// The place `span` of the recipe, for an error; of several lines, the first.
    pub fn snippet(&self, span: &Range<usize>, label: impl Into<String>) -> Snippet {
        source::snippet(&self.name, &self.text, span, label.into())
    }

    /// Whether the recipe's `architecture` allows this family: `qwen` stands for both of Qwen's, as in mergekit.
    pub fn accepts(&self, family: &MoeFamily) -> bool {
        let Some(named) = &self.architecture else { return true };
        let written = self.text.get(named.span.clone()).unwrap_or_default();
        family.recipe_name.starts_with(&written.trim_matches(['"', '\'']).trim().to_lowercase())
    }
}

/// mergekit refuses a recipe without prompts; the experts can speak for themselves.
fn default_mode(experts: &[Expert]) -> GateMode {
    let prompts = |e: &Expert| {
        !(e.positive_prompts.is_empty() && e.negative_prompts.is_empty())
            || e.positive_prompts_file.is_some()
            || e.negative_prompts_file.is_some()
    };
    if experts.iter().any(prompts) { GateMode::Hidden } else { GateMode::SelfCalibrated }
}

/// A recipe for mergekit's other command deserves better than a list of unknown keys.
fn refuse_dense_merge(source: &Source, root: &Node) -> Result<()> {
    let Kind::Map(entries) = &root.kind else { return Ok(()) };
    if entries.iter().any(|e| e.key.value == "experts") {
        return Ok(());
    }
    let dense = entries.iter().find(|e| matches!(e.key.value.as_str(), "merge_method" | "slices" | "models"));
    match dense {
        Some(entry) => Err(source
            .error("this recipe merges dense models, it makes no Mixture of Experts", entry.key.span.clone(), "")
            .hint("a recipe for an MoE has a `base_model` and a list of `experts`")
            .hint("merge the models with mergekit-yaml first and name the result as an expert's `source_model`")),
        None => Ok(()),
    }
}

fn read_experts(source: &Source, field: Field, what: &str) -> Result<Vec<Expert>> {
    let expert = |(index, node)| read_expert(source, node, format!("{what} {index}"));
    field.list()?.iter().enumerate().map(expert).collect()
}

fn read_expert(source: &Source, node: &Node, what: String) -> Result<Expert> {
    if let Kind::Scalar(scalar) = &node.kind
        && !node.is_null()
    {
        return Err(source
            .error(format!("{what} is a single value, expected keys with values"), node.span.clone(), "")
            .hint(format!("write `- source_model: {}`", shorten(&scalar.text))));
    }
    let fields = Fields::open(source, node, what, &EXPERT_KEYS)?;
    let source_model = read_model_ref(fields.required("source_model", "add `source_model: org/name`")?, source)?;
    let prompts = |key| fields.get(key).map_or(Ok(Vec::new()), |f| f.prompts());
    let file = |key| fields.get(key).map(|f| path(f)).transpose();
    let noise_scale = fields.get("noise_scale").map(noise_scale).transpose()?;
    let (validation, validation_file) = match fields.get("validation") {
        None => (Vec::new(), None),
        // A list is of texts, a single value is a file.
        Some(field) if matches!(field.node().kind, Kind::List(_)) => (field.prompts()?, None),
        Some(field) => (Vec::new(), Some(path(field)?)),
    };
    Ok(Expert {
        source_model,
        positive_prompts: prompts("positive_prompts")?,
        negative_prompts: prompts("negative_prompts")?,
        positive_prompts_file: file("positive_prompts_file")?,
        negative_prompts_file: file("negative_prompts_file")?,
        validation,
        validation_file,
        layers: fields.get("layers").map(|f| Layers::read(f, source)).transpose()?,
        shared_weight: fields.get("shared_weight").map(shared_weight).transpose()?,
        noise_scale,
        residual_scale: fields.get("residual_scale").map(|f| f.number()).transpose()?,
    })
}

fn path(field: Field) -> Result<Located<PathBuf>> {
    let text = &field.text()?.text;
    if text.is_empty() {
        return Err(field.wrong("a file"));
    }
    Ok(Located { value: PathBuf::from(text), span: field.span() })
}

fn shared_weight(field: Field) -> Result<f64> {
    let weight = field.number()?;
    if weight < 0.0 { Err(field.wrong("a weight, 0 or above")) } else { Ok(weight) }
}

fn noise_scale(field: Field) -> Result<f64> {
    let scale = field.number()?;
    if scale < 0.0 {
        return Err(field
            .wrong("a standard deviation, 0 or above")
            .hint("the noise is as often below 0 as above; 0, or no `noise_scale`, adds none"));
    }
    Ok(scale)
}

/// The output's type; an empty text is mergekit's way to say none.
fn dtype(field: Field) -> Result<Option<Dtype>> {
    match field.text()?.text.as_str() {
        "" => Ok(None),
        "float64" | "int64" | "torch.float64" | "torch.int64" => {
            Err(field.wrong("`bfloat16`, `float16` or `float32`").hint("no model has its weights in a wider type"))
        }
        written => {
            let alias = || DTYPE_ALIASES.iter().find(|(name, _)| *name == written).map(|(_, dtype)| *dtype);
            match Dtype::from_torch_name(written).or_else(alias) {
                Some(dtype) => Ok(Some(dtype)),
                None => field.one_of(&DTYPES).map(|d| Some(d.value)),
            }
        }
    }
}

/// The first family whose name begins with the text, as mergekit compares them; an empty text is none.
fn architecture(field: Field, source: &Source) -> Result<Option<Located<&'static MoeFamily>>> {
    let written = field.text()?.text.to_lowercase();
    if written.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = MoeFamily::ALL.iter().map(|f| f.recipe_name).collect();
    match MoeFamily::ALL.into_iter().find(|f| f.recipe_name.starts_with(&written)) {
        Some(family) => Ok(Some(Located { value: family, span: field.span() })),
        None => {
            let label = did_you_mean(&written, names.iter().copied());
            let label = label.map_or(String::new(), |near| format!("did you mean `{near}`?"));
            let message = format!("no MoE family is called \"{}\"", shorten(&written));
            Err(source.error(message, field.span(), label).hint(format!("the families are {}", quoted(&names))))
        }
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
