//! What `merge` and `plan` both take, and what they make of it.

use std::path::Path;

use moerge_checkpoint::Dtype;
use moerge_core::{model::locate::HubCache, output::files::Wanted};
use moerge_infer::decoder::WeightRounding;
use moerge_lib::merge::MergeOptions;

use crate::sizes;

/// Flags that change what is written, or how.
#[derive(Debug, clap::Args)]
pub struct BuildArgs {
    /// Memory to stay within [default: what it takes, and 2GiB for the threads that write]
    #[arg(long, value_name = "SIZE", value_parser = sizes::memory)]
    memory: Option<u64>,
    /// Largest shard: 5B (5 billion bytes), 500MB, 2GiB; 0 for one file
    #[arg(long, value_name = "SIZE", default_value = "5B", value_parser = sizes::shard)]
    out_shard_size: u64,
    /// Seed of random gates and noise, instead of the recipe's
    #[arg(long, value_name = "SEED", value_parser = sizes::whole::<u64>, allow_negative_numbers = true)]
    random_seed: Option<u64>,
    /// Round weights with a merged adapter to this type first: float32, float16 or bfloat16
    #[arg(long, value_name = "DTYPE", value_parser = dtype)]
    lora_merge_dtype: Option<Dtype>,
    /// Shift fitted routers until no expert is starved, for at most 0.5 % of perplexity
    #[arg(long)]
    balance: bool,
    /// Allow experts that are all the same model
    #[arg(long)]
    i_understand_this_is_not_useful_without_training: bool,
    /// Copy the base's tokenizer (the default)
    #[arg(long, overrides_with = "no_copy_tokenizer", hide_short_help = true)]
    copy_tokenizer: bool,
    /// Leave the tokenizer out
    #[arg(long, overrides_with = "copy_tokenizer")]
    no_copy_tokenizer: bool,
    /// Write a README.md for the Hub, and the recipe (the default)
    #[arg(long, overrides_with = "no_write_model_card", hide_short_help = true)]
    write_model_card: bool,
    /// Leave README.md and the recipe out
    #[arg(long, overrides_with = "write_model_card")]
    no_write_model_card: bool,
}

/// Flags of the work itself.
#[derive(Debug, clap::Args)]
pub struct RouterArgs {
    /// Threads that compute, read and write [default: by the machine]
    #[arg(short = 'j', long, value_name = "N", value_parser = sizes::threads)]
    num_threads: Option<u16>,
    /// Round the base's weights to 8 bits in the prompt pass
    #[arg(long, overrides_with = "no_load_in_8bit", conflicts_with = "load_in_4bit")]
    load_in_8bit: bool,
    #[arg(long, overrides_with = "load_in_8bit", hide = true)]
    no_load_in_8bit: bool,
    /// Round the base's weights to 4 bits in the prompt pass
    #[arg(long, overrides_with = "no_load_in_4bit")]
    load_in_4bit: bool,
    #[arg(long, overrides_with = "load_in_4bit", hide = true)]
    no_load_in_4bit: bool,
}

impl BuildArgs {
    /// The library's options.
    pub fn options(&self, force: bool) -> MergeOptions {
        MergeOptions {
            shard_bytes: self.out_shard_size,
            random_seed: self.random_seed,
            memory: self.memory,
            lora_dtype: self.lora_merge_dtype,
            balance: self.balance,
            force,
            allow_same_experts: self.i_understand_this_is_not_useful_without_training,
            wanted: Wanted { tokenizer: !self.no_copy_tokenizer, card: !self.no_write_model_card },
            cache: HubCache::from_env(),
            ..MergeOptions::default()
        }
    }
}

impl RouterArgs {
    /// Adds these to the library's options.
    pub fn options(&self, options: MergeOptions) -> MergeOptions {
        let rounding = match (self.load_in_8bit, self.load_in_4bit) {
            (true, _) => Some(WeightRounding::Q8_0),
            (_, true) => Some(WeightRounding::Q4_0),
            _ => None,
        };
        MergeOptions { threads: self.num_threads.map(usize::from), rounding, ..options }
    }
}

/// The folder that relative paths in a recipe start from.
pub fn recipe_dir(recipe: &Path) -> &Path {
    match recipe.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

fn dtype(text: &str) -> Result<Dtype, String> {
    match text.strip_prefix("torch.").unwrap_or(text) {
        "float32" => Ok(Dtype::F32),
        "float16" => Ok(Dtype::F16),
        "bfloat16" => Ok(Dtype::BF16),
        _ => Err("expected float32, float16 or bfloat16".to_owned()),
    }
}
