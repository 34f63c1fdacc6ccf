//! What the commands that run a model share: how it is loaded, and how its answers are sampled.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::{LocalStorage, Storage};
use moerge_core::{Error, plan::Slots, recipe::ModelRef};
use moerge_infer::{
    decoder::{Quantisation, ResidentModel},
    generate::{GenerationConfig, Sampling},
    model::Model,
};
use moerge_lib::route::{expert_names, expert_slots, plain_slots};

use super::{folder, hub};
use crate::{
    numbers::{bytes, memory},
    progress::Reporter,
    sizes,
};

/// The model, and how it is kept in memory.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// A model folder, `org/name` on the Hugging Face Hub, or either with `+adapter`
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// How the weights are kept in memory: f32, bf16, q8_0 or q4_k
    #[arg(long, value_name = "TYPE", default_value = "q8_0", value_parser = quantisation)]
    pub quant: Quantisation,
    /// Longest conversation in tokens [default: the model's, at most 8192]
    #[arg(long, value_name = "TOKENS", value_parser = sizes::tokens)]
    pub context: Option<usize>,
    /// Memory that the weights may take [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = sizes::memory)]
    pub memory: Option<u64>,
    /// Threads that compute [default: one a core]
    #[arg(short = 'j', long, value_name = "N", value_parser = sizes::threads)]
    pub num_threads: Option<u16>,
}

/// How answers are sampled; what is not given is the model's `generation_config.json`'s, or the default.
#[derive(Debug, clap::Args)]
pub struct SamplingArgs {
    /// Randomness: 0 always takes the likeliest token [default: 0.7]
    #[arg(long, value_name = "T", value_parser = number::<0, 100>, allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Only the likeliest tokens that together have this probability [default: 0.95]
    #[arg(long, value_name = "P", value_parser = number::<0, 1>, allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Only the K likeliest tokens; 0 for all [default: 0]
    #[arg(long, value_name = "K", value_parser = sizes::whole::<usize>, allow_negative_numbers = true)]
    pub top_k: Option<usize>,
    /// Only tokens at least this likely, relative to the likeliest [default: 0]
    #[arg(long, value_name = "P", value_parser = number::<0, 1>, allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Above 1, tokens that were there already become less likely [default: 1]
    #[arg(long, value_name = "X", value_parser = number::<0, 100>, allow_negative_numbers = true)]
    pub repetition_penalty: Option<f32>,
    /// The same seed gives the same answer [default: 0]
    #[arg(long, value_name = "SEED", value_parser = sizes::whole::<u64>, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Longest answer in tokens
    #[arg(long, short = 'n', value_name = "TOKENS", default_value_t = 512, value_parser = sizes::whole::<usize>)]
    #[arg(allow_negative_numbers = true)]
    pub max_tokens: usize,
}

/// A model in memory with all that talking to it needs.
pub struct Loaded {
    pub model: Model,
    pub resident: ResidentModel,
    pub generation: GenerationConfig,
    /// Longest conversation in tokens.
    pub context: usize,
    /// Names of the experts, where moerge wrote the model; otherwise empty.
    pub experts: Vec<String>,
    /// Where they are.
    pub slots: Slots,
}

/// Longest conversation unless the user asks for more: its keys and values take memory, too.
const CONTEXT: usize = 8192;

impl ModelArgs {
    /// Opens the model and reads it into memory.
    pub fn load(&self, reporter: &Reporter) -> anyhow::Result<Loaded> {
        if let Some(threads) = self.num_threads {
            // Fails where the pool is there already, which then has a thread a core.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global();
        }
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage);
        let reference = folder(Path::new(&self.model)).display().to_string();
        let hub = hub(reporter)?;
        if let Ok(parsed) = ModelRef::parse(&reference) {
            hub.bring(&parsed, Path::new("."), reporter)?;
        }
        let model = Model::open(&storage, &reference, Path::new("."), &hub.settings().cache)?;
        let generation = GenerationConfig::open(storage.as_ref(), &model.dir, &model.config.raw)?;
        generation.ignored.iter().for_each(|ignored| reporter.warning(ignored));
        self.check_memory(&model)?;
        let resident = ResidentModel::load(model.weights()?.as_ref(), self.quant, reporter)?;
        let longest = model.config.max_positions;
        if let Some(context) = self.context.filter(|c| *c > longest) {
            reporter.warning(&format!("the model was trained for {longest} tokens, not for {context}"));
        }
        let context = self.context.unwrap_or(longest.clamp(1, CONTEXT));
        let experts = expert_names(&model, storage.as_ref()).unwrap_or_default();
        let slots = expert_slots(&model, storage.as_ref()).unwrap_or_else(|error| {
            // The names and places of the experts are a comfort; the weights are what is run.
            reporter.warning(&format!("{}; experts go by their numbers", error.parts().message));
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
        let error = Error::input(format!("{} does not fit into memory", self.model))
            .fact("needed", memory(needed(self.quant)))
            .fact(if self.memory.is_some() { "allowed" } else { "free" }, memory(free));
        let smaller =
            Quantisation::TABLE.iter().rev().find(|(_, q)| needed(*q) <= free && needed(*q) < needed(self.quant));
        Err(match smaller {
            Some((name, q)) => error.hint(format!("--quant {name} takes {}", bytes(needed(*q)))),
            None => error.hint("close other programs, or take a machine with more memory"),
        })
    }
}

impl SamplingArgs {
    /// The sampling, with the model's own where nothing is given.
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

/// Memory that is free, where the system says so.
pub fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// A way of keeping weights, by the name that users know.
pub fn quantisation(text: &str) -> Result<Quantisation, String> {
    let found = Quantisation::TABLE.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, quantisation)| *quantisation).ok_or_else(|| "expected f32, bf16, q8_0 or q4_k".to_owned())
}

fn number<const LEAST: u32, const MOST: u32>(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|x| (LEAST as f32..=MOST as f32).contains(x));
    number.ok_or_else(|| format!("expected a number from {LEAST} to {MOST}"))
}
