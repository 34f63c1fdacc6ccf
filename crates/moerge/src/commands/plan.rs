use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use moerge_checkpoint::{LocalStorage, Storage};
use moerge_core::{ErrorKind, plan::PlanSummary, recipe::Recipe};
use moerge_hub::HubStorage;
use moerge_lib::merge::prepare;
use serde_json::json;

use super::{
    build::{BuildArgs, recipe_dir},
    folder, hub,
};
use crate::{diagnostics, progress::Reporter};

mod missing;
mod on_hub;
mod page;

/// Show what a recipe would make, and touch nothing
///
/// Reads headers and small files only, of models on the Hub too: nothing is downloaded for it. Tells the architecture and why it was chosen, the parameters, every model and
/// its prompts, the size of the output to the byte, and what of the models is not used.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge plan recipe.yml
  moerge plan recipe.yml out --json | jq .output.weight_bytes")]
pub struct Args {
    /// The recipe, a YAML file
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// The folder that `merge` would make: tells the free space of its disk
    #[arg(value_name = "OUT", default_value = "out")]
    out: PathBuf,
    #[command(flatten)]
    build: BuildArgs,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the plan.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = folder(&args.recipe);
    let recipe = Recipe::load(&path)?;
    let mut options = args.build.options(false);
    let missing = missing::not_downloaded(&recipe, recipe_dir(&path), &options);
    let mut storage: Arc<dyn Storage> = Arc::new(LocalStorage);
    let hub = hub(&Reporter::new(false, args.json, false))?;
    let offline = hub.settings().offline;
    if !missing.is_empty() && offline {
        return missing::tell(&recipe, &missing, None, args.json);
    }
    let remote = HubStorage::new(hub);
    if !offline {
        match remote.mount_models(&recipe, recipe_dir(&path)) {
            Ok(cache) => options.cache = cache,
            Err(error) if error.kind() == ErrorKind::Io && !missing.is_empty() => {
                return missing::tell(&recipe, &missing, Some(error), args.json);
            }
            Err(error) => return Err(error.into()),
        }
        storage = remote.clone();
    }
    // Tokenizers are the larger part of what would be fetched; `merge` compares them.
    options.compare_vocabularies = options.cache.remote.is_empty();
    let prepared = prepare(&storage, recipe, recipe_dir(&path), &options)?;
    let out = folder(&args.out);
    let max_bytes = prepared.max_bytes(storage.as_ref(), &out, options.wanted)?;
    let on_hub = on_hub::OnHub::of(&prepared, &remote);
    let free = free_space(storage.as_ref(), &out);
    let need = prepared.memory(storage.as_ref(), &options)?;
    let budget = options.memory;
    let summary = PlanSummary::new(&prepared.recipe, &prepared.models, &prepared.plan);
    let mut stdout = anstream::stdout();
    if args.json {
        let mut plan = serde_json::to_value(&summary)?;
        plan["output"] = json!({ "weight_bytes": summary.weight_bytes, "max_bytes": max_bytes, "disk_free": free });
        plan["memory"] = json!({
            "needed": need.peak(),
            "prompts": need.prompts,
            "self_text": need.self_text,
            "training": need.training,
            "weights": need.weights,
            "budget": budget,
        });
        plan["on_hub"] = on_hub.json();
        writeln!(stdout, "{plan:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in page::lines(&summary, max_bytes, free, (need.peak(), budget)) {
        writeln!(stdout, "{line}")?;
    }
    if let Some(line) = on_hub.line() {
        writeln!(stdout, "{line}")?;
    }
    for warning in &summary.warnings {
        diagnostics::warning(warning);
    }
    if let Some(Err(error)) = budget.map(|budget| need.within(budget)) {
        diagnostics::warning(&error.to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// Free bytes on the disk that holds `out`, or would.
fn free_space(storage: &dyn Storage, out: &Path) -> Option<u64> {
    let out = std::path::absolute(out).ok()?;
    out.ancestors().find_map(|dir| storage.free_space(dir).ok())
}
