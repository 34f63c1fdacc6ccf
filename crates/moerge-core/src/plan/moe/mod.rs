//! The plan of an MoE: the family, the slots of the experts, routing, and every tensor with its role and expression.

pub mod attention;
mod choose;
mod fit;
pub mod represent;
mod routing;
mod same_ffn;
mod shared;
mod slots;

mod expr_maker;
mod summary;
mod unused;

use moerge_checkpoint::Dtype;
use serde_json::Value;

pub use routing::{Prompts, Routing};
pub use same_ffn::{SameFfn, same_ffn};
pub use slots::Slots;

use super::{OutputPlan, OutputTensor};
use expr_maker::ExprMaker;
pub use summary::{ExpertSummary, ModelSummary, PlanSummary, UnusedSummary};

use crate::{
    error::{Error, Result},
    model::{
        config::ModelConfig,
        families::{Description, LayerRole, MoeFamily, MoeShape, Role},
        source::Source,
    },
    ops::Identity,
    recipe::Recipe,
};

/// Width of the all-zero shared expert that Qwen2-MoE requires if the recipe has none. It does not affect the output,
/// and is wide enough for tensor parallelism over 64 devices and for quantisation blocks of 32.
const IDLE_SHARED_WIDTH: usize = 64;
/// The weights of its gate: not zero, because `silu(0) / 0` is NaN in llama.cpp.
const IDLE_SHARED_GATE: f32 = 0.02;

/// The opened models of a recipe without repetitions, and their parts in it.
#[derive(Debug)]
pub struct Models {
    /// The distinct models.
    pub sources: Vec<Source>,
    /// Index of the base.
    pub base: usize,
    /// Index of each expert.
    pub experts: Vec<usize>,
    /// Index of the shared expert.
    pub shared_expert: Option<usize>,
}

/// Options besides the recipe that change the output.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// Maximum bytes per shard; a larger tensor gets its own shard.
    pub shard_bytes: u64,
    /// Seed of noise and random gates.
    pub seed: u64,
    /// The dtype that weights with a merged LoRA are rounded to first; `None` for no rounding.
    pub lora_dtype: Option<Dtype>,
    /// Whether fitted routers are shifted until no expert is starved.
    pub balance: bool,
}

/// The plan of an MoE.
#[derive(Debug)]
pub struct MoePlan {
    /// The plan of the output.
    pub output: OutputPlan,
    /// The output's family.
    pub family: &'static MoeFamily,
    /// Why this family was chosen.
    pub why: String,
    /// The sizes that the MoE adds to its base.
    pub shape: MoeShape,
    /// The description of the output.
    pub description: Description,
    /// The base's FFN in layers without some expert, used when that expert runs alone. Not written.
    pub stand_ins: Vec<(Role, OutputTensor)>,
    /// How the routers are made.
    pub routing: Routing,
    /// Experts with the same FFN in some layers, as far as headers show.
    pub same_ffn: Vec<SameFfn>,
}

impl Models {
    /// The base.
    pub fn base(&self) -> &Source {
        &self.sources[self.base]
    }

    /// Expert `index`.
    pub fn expert(&self, index: usize) -> &Source {
        &self.sources[self.experts[index]]
    }

    /// The shared expert.
    pub fn shared_expert(&self) -> Option<&Source> {
        self.shared_expert.map(|index| &self.sources[index])
    }
}

impl MoePlan {
    /// Plans the output of `recipe`.
    ///
    /// # Errors
    /// The models do not fit each other, no MoE represents them, or the recipe asks for something that they do not have.
    pub fn new(recipe: &Recipe, models: &Models, options: &PlanOptions) -> Result<Self> {
        let base = models.base();
        let (family, why) = choose::choose_family(recipe, &base.config, base.family)?;
        let mut warnings = fit::check(recipe, models)?;
        let width = |source: &Source| source.config.intermediate_size;
        let shared = match models.shared_expert() {
            Some(source) => Some(width(source)),
            None => family.needs_shared_expert().then_some(IDLE_SHARED_WIDTH),
        };
        if options.balance && !recipe.gate_mode.is_fitted() {
            let mode = recipe.gate_mode.name();
            return Err(Error::input(format!("`gate_mode: {mode}` fits no routers that could be balanced"))
                .hint("`gate_mode: self_calibrated` does, without prompts; `calibrated` fits them to your own text"));
        }
        let slots = Slots::of(recipe, base.config.layers);
        fit::check_layers(recipe, &slots)?;
        let shape = MoeShape {
            experts: slots.width(),
            top_k: recipe.experts_per_token.value,
            intermediate: models.experts.iter().map(|i| width(&models.sources[*i])).max().unwrap_or(0),
            shared,
        };
        let dtype = output_dtype(recipe, base);
        let windows: Vec<_> = base.description.decoder.windows().collect();
        let config = family.config(&base.config, &windows, &shape, dtype.torch_name().unwrap_or_default());
        let text = serde_json::to_string(&config).unwrap_or_default();
        let description = family.describe(&ModelConfig::parse(&text, &base.config.path)?)?;
        represent::check(&base.config, family, &base.description, &description)?;

        let maker = ExprMaker {
            recipe,
            models,
            slots: &slots,
            description: &description,
            dtype,
            lora_dtype: options.lora_dtype,
        };
        let tensors = description.tensors.iter().map(|tensor| maker.output_tensor(tensor)).collect::<Result<_>>()?;
        warnings.extend(maker.warnings());
        warnings.extend(maker.averaging_warnings());
        let stand_ins = maker.stand_ins();
        let mut output = OutputPlan::new(config, tensors, options.shard_bytes, options.seed)?;
        output.unused = unused::unused_weights(models, &output.tensors);
        let roles = description.tensors.iter().map(|tensor| tensor.role).zip(&output.tensors);
        let same_ffn = same_ffn(&slots, roles, same_ffn::origin);
        // The recipe's check already warns if all experts are one model.
        let one_model = models.experts.windows(2).all(|pair| pair[0] == pair[1]);
        warnings.extend(same_ffn.iter().filter(|_| !one_model).map(|same| same.warning(models, &slots)));
        output.warnings = warnings;
        Ok(Self {
            same_ffn,
            output,
            family,
            why,
            shape,
            stand_ins,
            routing: Routing { balance: options.balance, ..Routing::new(recipe, family, slots, options.seed) },
            description,
        })
    }

    /// Adds everything that determines the output's weights to `id`, including the routers.
    ///
    /// # Errors
    /// A source cannot be read.
    pub fn identify(&self, id: &mut Identity) -> Result<()> {
        self.routing.identify(id);
        self.output.identify(id)
    }

    /// The output's tensors with their roles.
    pub fn tensors(&self) -> impl Iterator<Item = (Role, &OutputTensor)> {
        self.description.tensors.iter().map(|tensor| tensor.role).zip(&self.output.tensors)
    }

    /// The number of parameters, and of those that are active per token.
    pub fn parameters(&self) -> (u64, u64) {
        let total: u64 = self.output.tensors.iter().map(OutputTensor::elements).sum();
        let of_experts: u64 = self.tensors().filter(|(role, _)| is_expert(*role)).map(|(_, t)| t.elements()).sum();
        let idle = (self.shape.experts - self.shape.top_k) as u64;
        (total, total - of_experts / self.shape.experts.max(1) as u64 * idle)
    }
}

fn is_expert(role: Role) -> bool {
    matches!(role, Role::Layer(_, LayerRole::Expert(..)))
}

/// The recipe's dtype, else that of the base's config, else that of its embeddings.
fn output_dtype(recipe: &Recipe, base: &Source) -> Dtype {
    let named = |key: &str| {
        let dtype = base.config.raw.get(key).and_then(Value::as_str).and_then(Dtype::from_torch_name);
        dtype.filter(|dtype| *dtype != Dtype::F64)
    };
    let stored = || base.weight(Role::Embeddings).map_or(Dtype::BF16, |w| w.dtype);
    recipe.dtype.or_else(|| named("dtype")).or_else(|| named("torch_dtype")).unwrap_or_else(stored)
}
