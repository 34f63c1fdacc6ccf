//! From the tree of a recipe to its values. Parsing continues after an error, so one run reports all.

use std::sync::Arc;

use super::{
    FitSettings, GateMode, Located, ModelRef, Recipe, SharedWeights,
    dtype::dtype,
    expert::{Expert, read_expert},
    fields::{Field, Fields},
    foreign_keys::OF_RECIPE,
    model_ref_field::read_model_ref,
    source::Source,
    yaml::{self, Kind, Node},
};
use crate::{
    error::Result,
    model::families::MoeFamily,
    suggest::{did_you_mean, quoted, shorten},
};

/// Keys of a recipe for an MoE.
const KEYS: [&str; 14] = [
    "base_model",
    "experts",
    "gate_mode",
    FitSettings::KEYS[0],
    FitSettings::KEYS[1],
    FitSettings::KEYS[2],
    FitSettings::KEYS[3],
    FitSettings::KEYS[4],
    "shared_weights",
    "dtype",
    "experts_per_token",
    "shared_experts",
    "architecture",
    "random_seed",
];

/// What could be read of a recipe.
pub(super) struct Draft {
    /// Faulty values are missing or have their defaults.
    pub recipe: Recipe,
    pub doubts: Doubts,
}

/// Parts of a recipe that had faults, so that rules about them would only repeat these.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Doubts {
    /// The list of experts itself.
    pub list: bool,
    pub experts: bool,
    pub shared_experts: bool,
    pub gate_mode: bool,
    pub experts_per_token: bool,
}

/// Reads a recipe. Only a text that has no keys to read is an error here; other faults are noted in `source`.
pub(super) fn read(source: &Source) -> Result<Draft> {
    let Some(root) = yaml::tree(source)? else {
        return Err(source
            .error("the recipe is empty", 0..0, "")
            .hint("a recipe has a `base_model` and a list of `experts`"));
    };
    refuse_dense_merge(source, &root)?;
    read_root(source, &root)
}

/// The same of one document of a file.
pub(super) fn read_root(source: &Source, root: &Node) -> Result<Draft> {
    let fields = Fields::open_with(source, root, "the recipe", &KEYS, OF_RECIPE)?;
    let base_model = fields.required("base_model", "add `base_model: org/name`");
    let base_model = source.keep(base_model.and_then(|field| read_model_ref(field, source)));
    let before = source.faults();
    let list = source.keep(fields.required("experts", "add a list of `experts`").and_then(|field| field.list()));
    let experts = read_experts(source, list.unwrap_or_default(), "expert");
    let between = source.faults();
    let shared = fields.read("shared_experts", |field| field.list()).unwrap_or_default();
    let shared_experts = read_experts(source, shared, "shared expert");
    let after = source.faults();
    let gate_mode = fields.read("gate_mode", |field| field.one_of(&GateMode::TABLE));
    let experts_per_token = fields.read("experts_per_token", |field| {
        let number = usize::try_from(field.whole_number()?).unwrap_or(usize::MAX);
        Ok(Located { value: number, span: field.span() })
    });
    let doubts = Doubts {
        list: list.is_none_or(|list| list.len() != experts.len()),
        experts: before < between,
        shared_experts: between < after,
        gate_mode: gate_mode.is_none() && fields.get("gate_mode").is_some(),
        experts_per_token: experts_per_token.is_none() && fields.get("experts_per_token").is_some(),
    };
    let recipe = Recipe {
        name: source.name.to_owned(),
        text: Arc::clone(source.text),
        base_model: base_model.unwrap_or_else(|| Located { value: ModelRef::unknown(), span: 0..0 }),
        gate_mode_given: gate_mode.is_some(),
        gate_mode: gate_mode.map_or_else(|| default_mode(&experts), |mode| mode.value),
        experts,
        shared_experts,
        fit: FitSettings::read(source, &fields),
        shared_weights: fields.read("shared_weights", |field| SharedWeights::read(source, field)).unwrap_or_default(),
        dtype: fields.read("dtype", dtype).flatten(),
        experts_per_token: experts_per_token.unwrap_or(Located { value: 2, span: 0..0 }),
        architecture: fields.read("architecture", |field| architecture(field, source)).flatten(),
        random_seed: fields.read("random_seed", |field| field.whole_number()),
        warnings: Vec::new(),
    };
    Ok(Draft { recipe, doubts })
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
            .error("this is a recipe for a dense merge, not for a Mixture of Experts", entry.key.span.clone(), "")
            .hint("a recipe for an MoE has a `base_model` and a list of `experts`")),
        None => Ok(()),
    }
}

fn read_experts(source: &Source, list: &[Node], what: &str) -> Vec<Expert> {
    let expert = |(index, node)| source.keep(read_expert(source, node, format!("{what} {index}")));
    list.iter().enumerate().filter_map(expert).collect()
}

/// The first family whose name begins with the text, as mergekit compares them; an empty string is none.
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
