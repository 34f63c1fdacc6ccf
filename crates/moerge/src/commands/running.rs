//! Arguments of `chat`, `generate` and `serve`: how the model is loaded, and how its answers are sampled.

use std::path::Path;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use moerge_core::{Error, plan::Slots, recipe::ModelRef};
use moerge_infer::{
    decoder::{Quantisation, ResidentModel},
    generate::{GenerationConfig, Sampling},
    model::Model,
};
use moerge_lib::route::{expert_names, expert_slots, plain_slots};

use super::{folder, hub, storages::models, use_threads};
use crate::{numbers::memory, progress::Reporter, sizes, terminal::one_line};

/// The model, and how it is stored in memory.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// A model folder, a GGUF file, or `org/name` on the Hub, optionally with `+adapter`
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Weight type in memory
    #[arg(long, value_name = "TYPE", default_value = "q8_0", value_parser = quantisations(), ignore_case = true)]
    pub quant: Quantisation,
    /// Context length in tokens [default: the model's, at most 8192]
    #[arg(long, value_name = "TOKENS", value_parser = sizes::tokens)]
    pub context: Option<usize>,
    /// Memory for the weights [default: free memory]
    #[arg(long, value_name = "SIZE", value_parser = sizes::memory)]
    pub memory: Option<u64>,
    /// Number of threads [default: one per core]
    #[arg(short = 'j', long, value_name = "N", value_parser = sizes::threads)]
    pub num_threads: Option<u16>,
}

/// How answers are sampled. Options that are not given come from the model's `generation_config.json`.
#[derive(Debug, clap::Args)]
pub struct SamplingArgs {
    /// Randomness; 0 always picks the most likely token [default: the model's, or 0.7]
    #[arg(long, value_name = "T", value_parser = number::<0, 100>, allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Sample from the most likely tokens with this total probability [default: the model's, or 0.95]
    #[arg(long, value_name = "P", value_parser = number::<0, 1>, allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Sample from the K most likely tokens; 0 for all [default: the model's, or 0]
    #[arg(long, value_name = "K", value_parser = sizes::whole::<usize>, allow_negative_numbers = true)]
    pub top_k: Option<usize>,
    /// Drop tokens less likely than P times the most likely one [default: the model's, or 0]
    #[arg(long, value_name = "P", value_parser = number::<0, 1>, allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Above 1, tokens that already occurred become less likely [default: the model's, or 1]
    #[arg(long, value_name = "X", value_parser = number::<0, 100>, allow_negative_numbers = true)]
    pub repetition_penalty: Option<f32>,
    /// Random seed; the same seed gives the same answer [default: 0]
    #[arg(long, value_name = "SEED", value_parser = sizes::whole::<u64>, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Maximum number of tokens of an answer
    #[arg(long, short = 'n', value_name = "TOKENS", default_value_t = 512, value_parser = sizes::whole::<usize>)]
    #[arg(allow_negative_numbers = true)]
    pub max_tokens: usize,
}

/// A model in memory, with everything that generation needs.
pub struct Loaded {
    pub model: Model,
    pub resident: ResidentModel,
    pub generation: GenerationConfig,
    /// Maximum context length in tokens.
    pub context: usize,
    /// Names of the experts if moerge wrote the model, else empty.
    pub experts: Vec<String>,
    /// Which expert is in which slot of a layer.
    pub slots: Slots,
}

/// Default limit of the context length, since keys and values take memory too.
const DEFAULT_CONTEXT: usize = 8192;

impl ModelArgs {
    /// Opens the model and reads it into memory.
    pub fn load(&self, reporter: &Reporter) -> anyhow::Result<Loaded> {
        use_threads(self.num_threads.map(usize::from));
        let storage = models();
        let reference = folder(Path::new(&self.model)).display().to_string();
        let hub = hub(reporter)?;
        if let Ok(parsed) = ModelRef::parse(&reference) {
            hub.ensure_downloaded(storage.as_ref(), &parsed, Path::new("."), reporter)?;
        }
        let model = Model::open(&storage, &reference, Path::new("."), &hub.settings().cache)?;
        model.warnings.iter().for_each(|warning| reporter.warning(warning));
        let generation = GenerationConfig::open(storage.as_ref(), &model.dir, &model.config.raw)?;
        let generation = generation.with_eos(model.tokenizer.eos());
        generation.ignored.iter().for_each(|ignored| reporter.warning(ignored));
        self.check_memory(&model)?;
        let resident = ResidentModel::load(model.weights()?.as_ref(), self.quant, reporter)?;
        let longest = model.config.max_positions;
        if let Some(context) = self.context.filter(|c| *c > longest) {
            reporter.warning(&format!("the model was trained for {longest} tokens, fewer than --context {context}"));
        }
        let context = self.context.unwrap_or(longest.clamp(1, DEFAULT_CONTEXT));
        let experts = expert_names(&model, storage.as_ref()).unwrap_or_default();
        let slots = expert_slots(&model, storage.as_ref()).unwrap_or_else(|error| {
            // The model runs without the names of its experts.
            reporter.warning(&format!("{}; experts are shown by number", error.parts().message));
            plain_slots(&model)
        });
        Ok(Loaded { model, resident, generation, context, experts, slots })
    }

    fn check_memory(&self, model: &Model) -> Result<(), Error> {
        let needed = |quantisation| ResidentModel::bytes(model.description(), quantisation);
        let free = match self.memory.or_else(available) {
            Some(free) if needed(self.quant) > free => free,
            _ => return Ok(()),
        };
        let all = needed(self.quant);
        let what = if self.memory.is_some() { "the limit of --memory" } else { "the free memory" };
        let error = Error::input(format!("{} needs more than {what}", one_line(&self.model)))
            .fact("needed", memory(all))
            .fact(if self.memory.is_some() { "limit" } else { "free" }, memory(free));
        let smaller = Quantisation::TABLE.iter().rev().find(|(_, q)| needed(*q) <= free && needed(*q) < all);
        let error = match smaller {
            Some((name, q)) => error.hint(format!("--quant {name} needs {}", memory(needed(*q)))),
            None => error,
        };
        Err(match (self.memory, smaller) {
            (Some(_), _) => error.hint(format!("--memory {}MiB allows it", all.div_ceil(1 << 20))),
            (None, None) => error.hint("close other programs, or use a machine with more memory"),
            (None, Some(_)) => error,
        })
    }
}

impl SamplingArgs {
    /// These options; those that are not given come from `model`.
    pub fn sampling(&self, model: &Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(model.temperature),
            top_k: self.top_k.unwrap_or(model.top_k),
            top_p: self.top_p.unwrap_or(model.top_p),
            min_p: self.min_p.unwrap_or(model.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(model.repetition_penalty),
            seed: self.seed.unwrap_or(model.seed),
        }
    }
}

/// Free memory in bytes, if the system reports it.
#[cfg(not(target_os = "linux"))]
pub fn available() -> Option<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    Some(system.available_memory()).filter(|bytes| *bytes > 0)
}

/// Free memory in bytes, if the system reports it.
#[cfg(target_os = "linux")]
pub fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Parses the name of a weight type; help and completions list the names.
pub fn quantisations() -> impl TypedValueParser<Value = Quantisation> {
    let find = |text: &str| Quantisation::TABLE.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    let names = Quantisation::TABLE.map(|(name, _)| name);
    PossibleValuesParser::new(names).try_map(move |text| match find(&text) {
        Some((_, quantisation)) => Ok(*quantisation),
        None => Err(format!("unknown weight type {text}")),
    })
}

fn number<const MIN: u32, const MAX: u32>(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|x| (MIN as f32..=MAX as f32).contains(x));
    number.ok_or_else(|| format!("expected a number from {MIN} to {MAX}"))
}
