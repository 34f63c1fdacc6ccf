use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use checkpoint::{LocalStorage, Storage};
use moerge::{merge::prepare, plan::PlanSummary, recipe::Recipe};
use serde_json::json;

use super::{
    build::{BuildArgs, recipe_dir},
    folder,
};
use crate::diagnostics;

mod missing;
mod page;

/// Show what a recipe would make, and touch nothing
///
/// Reads headers and small files only. Tells the architecture and why it was chosen, the parameters, every model and
/// its prompts, the size of the output to the byte, and what of the models is not used.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge plan recipe.yml
  moerge plan recipe.yml out --json | jq .output.bytes")]
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
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage);
    let path = folder(&args.recipe);
    let recipe = Recipe::load(&path)?;
    let options = args.build.options(false);
    let missing = missing::not_downloaded(&recipe, recipe_dir(&path), &options);
    if !missing.is_empty() {
        return missing::tell(&recipe, &missing, args.json);
    }
    let prepared = prepare(&storage, recipe, recipe_dir(&path), &options)?;
    let out = folder(&args.out);
    let (_, output_bytes) = prepared.files(storage.as_ref(), &out, options.wanted)?;
    let free = free_space(storage.as_ref(), &out);
    let need = prepared.memory(storage.as_ref(), &options)?;
    let budget = options.memory;
    let summary = PlanSummary::new(&prepared.recipe, &prepared.models, &prepared.plan);
    let mut stdout = anstream::stdout();
    if args.json {
        let mut plan = serde_json::to_value(&summary)?;
        plan["output"] = json!({ "bytes": output_bytes, "disk_free": free });
        plan["memory"] =
            json!({ "needed": need.peak(), "prompts": need.prompts, "weights": need.weights, "budget": budget });
        writeln!(stdout, "{plan:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in page::lines(&summary, output_bytes, free, (need.peak(), budget)) {
        writeln!(stdout, "{line}")?;
    }
    for warning in &summary.warnings {
        diagnostics::warning(warning);
    }
    if let Err(error) = need.within(budget) {
        diagnostics::warning(&error.to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// Free bytes on the disk that holds `out`, or would.
fn free_space(storage: &dyn Storage, out: &Path) -> Option<u64> {
    let out = std::path::absolute(out).ok()?;
    out.ancestors().find_map(|dir| storage.free_space(dir).ok())
}
