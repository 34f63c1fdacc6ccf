//! Arguments that `merge` and `plan` share.

use std::{
    io::{self, Read as _},
    path::Path,
};

use moerge_checkpoint::Dtype;
use moerge_core::{
    Error, Result,
    model::locate::HubCache,
    output::files::OptionalFiles,
    progress::Progress as _,
    recipe::{Document, MAX_RECIPE},
};
use moerge_infer::decoder::WeightRounding;
use moerge_lib::merge::MergeOptions;

use super::dtypes;
use crate::{interrupt, progress::Reporter, sizes};

/// The name of standard input in place of a recipe.
const STDIN: &str = "-";

/// Flags that change the output, or what it takes.
#[derive(Debug, clap::Args)]
pub struct BuildArgs {
    /// Memory budget [default: as much as needed, and 2GiB for writing]
    #[arg(long, value_name = "SIZE", value_parser = sizes::memory)]
    memory: Option<u64>,
    /// Maximum shard size: 5B (5 billion bytes), 500MB, 2GiB; 0 for one file
    #[arg(long, value_name = "SIZE", default_value = "5B", value_parser = sizes::shard)]
    out_shard_size: u64,
    /// Seed of random gates and noise, instead of the recipe's
    #[arg(long, value_name = "SEED", value_parser = sizes::whole::<u64>, allow_negative_numbers = true)]
    random_seed: Option<u64>,
    /// Round weights with a merged adapter to this type first
    #[arg(long, value_name = "DTYPE", value_parser = dtypes())]
    lora_merge_dtype: Option<Dtype>,
    /// Cut embeddings of different length to the shortest, in a dense merge
    #[arg(long, overrides_with = "no_unsafe_truncate_embeddings")]
    unsafe_truncate_embeddings: bool,
    #[arg(long, overrides_with = "unsafe_truncate_embeddings", hide = true)]
    no_unsafe_truncate_embeddings: bool,
    /// Shift fitted routers until no expert is starved, for at most 0.5 % of perplexity
    #[arg(long)]
    balance: bool,
    /// Allow experts that are all the same model
    #[arg(long)]
    i_understand_this_is_not_useful_without_training: bool,
    /// Copy the base model's tokenizer (default)
    #[arg(long, overrides_with = "no_copy_tokenizer", hide_short_help = true)]
    copy_tokenizer: bool,
    /// Do not copy the tokenizer
    #[arg(long, overrides_with = "copy_tokenizer")]
    no_copy_tokenizer: bool,
    /// Write a README.md for the Hub, and the recipe (default)
    #[arg(long, overrides_with = "no_write_model_card", hide_short_help = true)]
    write_model_card: bool,
    /// Do not write README.md and the recipe
    #[arg(long, overrides_with = "write_model_card")]
    no_write_model_card: bool,
}

/// Flags of the computation.
#[derive(Debug, clap::Args)]
pub struct RouterArgs {
    /// Number of threads [default: depends on the machine]
    #[arg(short = 'j', long, value_name = "N", value_parser = sizes::threads)]
    num_threads: Option<u16>,
    /// Quantise the base model's weights to 8 bits in the prompt pass
    #[arg(long, overrides_with = "no_load_in_8bit", conflicts_with = "load_in_4bit")]
    load_in_8bit: bool,
    #[arg(long, overrides_with = "load_in_8bit", hide = true)]
    no_load_in_8bit: bool,
    /// Quantise the base model's weights to 4 bits in the prompt pass
    #[arg(long, overrides_with = "no_load_in_4bit")]
    load_in_4bit: bool,
    #[arg(long, overrides_with = "load_in_4bit", hide = true)]
    no_load_in_4bit: bool,
}

impl BuildArgs {
    /// Says which of the given flags have no effect on an MoE.
    pub fn note_unneeded(&self, reporter: &Reporter) {
        if self.unsafe_truncate_embeddings {
            reporter.note(
                "--unsafe-truncate-embeddings is not needed: the MoE takes the base's embeddings, whatever the experts' \
                 vocabularies",
            );
        }
    }

    /// The options of the library.
    pub fn options(&self, force: bool) -> MergeOptions {
        MergeOptions {
            shard_bytes: self.out_shard_size,
            random_seed: self.random_seed,
            memory: self.memory,
            lora_dtype: self.lora_merge_dtype,
            truncate_embeddings: self.unsafe_truncate_embeddings,
            balance: self.balance,
            force,
            allow_same_experts: self.i_understand_this_is_not_useful_without_training,
            optional_files: OptionalFiles { tokenizer: !self.no_copy_tokenizer, card: !self.no_write_model_card },
            cache: HubCache::from_env(),
            ..MergeOptions::default()
        }
    }
}

impl RouterArgs {
    /// `options` with these added.
    pub fn options(&self, options: MergeOptions) -> MergeOptions {
        let rounding = match (self.load_in_8bit, self.load_in_4bit) {
            (true, _) => Some(WeightRounding::Q8_0),
            (_, true) => Some(WeightRounding::Q4_0),
            _ => None,
        };
        MergeOptions { threads: self.num_threads.map(usize::from), rounding, ..options }
    }
}

/// Loads the recipe `path`. `-` is standard input, where relative paths are relative to the working directory.
///
/// # Errors
/// It cannot be read, or all faults that are found in it.
pub fn load_recipe(path: &Path) -> Result<Document> {
    if path != Path::new(STDIN) {
        return Document::load(path);
    }
    let name = Path::new("stdin");
    let mut text = String::new();
    interrupt::while_waiting(|| io::stdin().take(MAX_RECIPE + 1).read_to_string(&mut text))
        .map_err(|e| Error::io("read", name, &e))?;
    if text.len() as u64 > MAX_RECIPE {
        return Err(Error::input(format!("stdin is larger than {} MiB", MAX_RECIPE >> 20)));
    }
    Document::load_text(name, &text)
}

/// The folder that relative paths in a recipe are relative to.
pub fn recipe_dir(recipe: &Path) -> &Path {
    match recipe.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}
