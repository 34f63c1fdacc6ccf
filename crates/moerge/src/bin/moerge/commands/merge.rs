use std::{path::PathBuf, process::ExitCode};

use checkpoint::Dtype;

use crate::{mergekit_flags::MergekitFlags, sizes};

/// Make a Mixture of Experts from a recipe
///
/// Takes the recipe and the command line of mergekit-moe. The output folder appears only when it is complete: if a
/// run is stopped, killed or runs out of disk, the same command again goes on where it was.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge merge recipe.yml out
  moerge merge recipe.yml out --out-shard-size 1B --memory 4GiB
  moerge merge recipe.yml out --load-in-8bit       less memory for the prompt pass
  moerge merge recipe.yml out --json               one event a line, for scripts")]
pub struct Args {
    /// The recipe, a YAML file
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// The folder to make
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Replace OUT if it exists
    #[arg(long)]
    force: bool,
    /// Memory to stay within
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = sizes::bytes)]
    memory: u64,
    /// Largest shard: 5B (5 billion bytes), 500MB, 2GiB; 0 for one file
    #[arg(long, value_name = "SIZE", default_value = "5B", value_parser = sizes::shard)]
    out_shard_size: u64,
    /// Seed of random gates and noise; the recipe's counts where it has one
    #[arg(long, value_name = "SEED")]
    random_seed: Option<u64>,
    /// Threads that compute and read [default: one a core]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    num_threads: Option<u16>,
    /// Round the base's weights to 8 bits in the prompt pass
    #[arg(long, conflicts_with = "load_in_4bit")]
    load_in_8bit: bool,
    /// Round the base's weights to 4 bits in the prompt pass
    #[arg(long)]
    load_in_4bit: bool,
    /// Round weights with a merged adapter to this type first: float32, float16 or bfloat16
    #[arg(long, value_name = "DTYPE", value_parser = dtype)]
    lora_merge_dtype: Option<Dtype>,
    /// Allow experts that are all the same model
    #[arg(long)]
    i_understand_this_is_not_useful_without_training: bool,
    /// Copy the base's tokenizer (this is the default)
    #[arg(long, overrides_with = "no_copy_tokenizer", hide_short_help = true)]
    copy_tokenizer: bool,
    /// Leave the tokenizer out
    #[arg(long, overrides_with = "copy_tokenizer")]
    no_copy_tokenizer: bool,
    /// Write a README.md for the Hub (this is the default)
    #[arg(long, overrides_with = "no_write_model_card", hide_short_help = true)]
    write_model_card: bool,
    /// Leave README.md out
    #[arg(long, overrides_with = "write_model_card")]
    no_write_model_card: bool,
    /// Print events as JSON, one a line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Only say what is wrong
    #[arg(short, long, overrides_with = "no_quiet")]
    quiet: bool,
    #[arg(long, overrides_with = "quiet", hide = true)]
    no_quiet: bool,
    /// Tell more
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(flatten)]
    mergekit: MergekitFlags,
}

fn dtype(text: &str) -> Result<Dtype, String> {
    match text.strip_prefix("torch.").unwrap_or(text) {
        "float32" => Ok(Dtype::F32),
        "float16" => Ok(Dtype::F16),
        "bfloat16" => Ok(Dtype::BF16),
        _ => Err("expected float32, float16 or bfloat16".to_owned()),
    }
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet: {args:?}")
}
