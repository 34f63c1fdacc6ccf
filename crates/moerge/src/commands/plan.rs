//! `moerge plan`: shows what `merge` would produce, without downloading or writing anything.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use moerge_checkpoint::{LocalStorage, OutputStorage, is_object};
use moerge_core::{ErrorKind, model::gguf::GgufStorage, plan::PlanSummary, recipe::Output};
use moerge_hub::HubStorage;
use moerge_lib::{
    export::PlannedFiles,
    merge::{earlier_models, prepare_with},
};
use serde_json::json;

use super::{
    build::{BuildArgs, load_recipe, recipe_dir},
    folder,
    gguf::{GgufArgs, is_gguf},
    hub,
    storages::{self, models},
};
use crate::{console, diagnostics, progress::Reporter};

mod dense;
mod estimate;
mod export;
mod gguf;
mod missing;
mod on_hub;
mod page;

/// Show what merge or export would write, without writing it
///
/// Shows the architecture and why it was chosen, the number of parameters, every model with its prompts, the exact size
/// of the output, the memory and disk space needed, and unused weights. Reads only headers and small files; models on
/// the Hub are not downloaded.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge plan recipe.yml
  moerge plan recipe.yml out.gguf --quant q4_k_m
  moerge plan model out.gguf --quant q4_k_m        what `export` would write
  moerge plan recipe.yml out --json | jq .output.weight_bytes")]
pub struct Args {
    /// The recipe, a YAML file, or - for standard input; or a model folder or GGUF file
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// The output of `merge`: a folder, or a file that ends in .gguf
    #[arg(value_name = "OUT", default_value = "out")]
    out: PathBuf,
    #[command(flatten)]
    build: BuildArgs,
    #[command(flatten)]
    gguf: GgufArgs,
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints the plan.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = folder(&args.recipe);
    if path.is_dir() || is_gguf(&path) {
        return export::run(args, &path);
    }
    let recipe = load_recipe(&path)?;
    let mut options = args.build.options(false);
    options.storages = storages::memory(&recipe, &folder(&args.out));
    let missing = missing::not_downloaded(&recipe, recipe_dir(&path), &options);
    let mut storage = models();
    let reporter = Reporter::new(false, args.json, false);
    let hub = hub(&reporter)?;
    let offline = hub.settings().offline;
    if !missing.is_empty() && offline {
        return missing::print(&recipe, &missing, None, args.json);
    }
    let remote = HubStorage::new(hub, storages::shared());
    if !offline {
        match remote.mount_models(&recipe, recipe_dir(&path)) {
            Ok(cache) => options.cache = cache,
            Err(error) if error.kind() == ErrorKind::Io && !missing.is_empty() => {
                return missing::print(&recipe, &missing, Some(error), args.json);
            }
            Err(error) => return Err(error.into()),
        }
        storage = GgufStorage::over(remote.clone());
    }
    let made = earlier_models(&storage, &recipe.earlier, recipe_dir(&path), &options)?;
    // Tokenizers would be most of the download; `merge` compares them.
    options.compare_vocabularies = options.cache.remote.is_empty();
    let recipe = match recipe.output {
        Output::Moe(recipe) => *recipe,
        Output::Dense(recipe) => return dense::run(args, &storage, *recipe, &made, &options),
    };
    let prepared = prepare_with(&storage, recipe, &made, recipe_dir(&path), &options)?;
    let out = folder(&args.out);
    let gguf = args
        .gguf
        .plan_options(&out)?
        .map(|(export, imatrix)| prepared.gguf_plan(storage.as_ref(), &out, &export, imatrix.as_ref(), &options));
    let gguf = gguf.transpose()?;
    let max_bytes = match &gguf {
        Some(gguf) => gguf.bytes(),
        None => prepared.max_bytes(storage.as_ref(), &out, options.optional_files)?,
    };
    let on_hub = on_hub::OnHub::of(&prepared, &remote);
    let free = free_space(&out);
    let need = prepared.memory(storage.as_ref(), &options, &reporter)?;
    let imatrix = gguf.as_ref().and_then(|gguf| gguf.imatrix_memory).map_or(0, |memory| memory.needed);
    let (peak, budget) = (need.peak().max(imatrix), options.memory);
    let mut summary = PlanSummary::new(&prepared.recipe, &prepared.models, &prepared.plan);
    summary.warnings.extend(prepared.prompt_warnings(storage.as_ref(), &reporter)?);
    let mut results = console::results();
    if args.json {
        let mut plan = serde_json::to_value(&summary)?;
        plan["output"] = json!({ "weight_bytes": summary.weight_bytes, "max_bytes": max_bytes, "disk_free": free });
        plan["memory"] = json!({
            "needed": peak,
            "prompts": need.prompts,
            "self_text": need.self_text,
            "training": need.training,
            "imatrix": imatrix,
            "weights": need.weights,
            "budget": budget,
        });
        plan["on_hub"] = on_hub.json();
        if let Some(gguf) = &gguf {
            plan["gguf"] = gguf::json(gguf);
        }
        writeln!(results, "{plan:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let tokens = prepared.router_tokens(storage.as_ref(), &reporter)?;
    let time = estimate::line(&prepared, &summary, max_bytes, tokens);
    results.lines(page::lines(&summary, max_bytes, free, (peak, budget), time))?;
    results.lines(gguf.iter().flat_map(gguf::lines))?;
    results.lines(on_hub.line())?;
    for warning in summary.warnings.iter().cloned().chain(gguf.iter().flat_map(PlannedFiles::warnings)) {
        diagnostics::warning(&warning);
    }
    let imatrix = gguf.iter().flat_map(|gguf| gguf.imatrix_within(budget).err());
    for error in budget.and_then(|budget| need.within(budget).err()).into_iter().chain(imatrix) {
        diagnostics::warning(&diagnostics::as_warning(&error));
    }
    Ok(ExitCode::SUCCESS)
}

/// Free bytes on the disk of `out`, which may not exist yet.
fn free_space(out: &Path) -> Option<u64> {
    if is_object(out) {
        return None;
    }
    let out = std::path::absolute(out).ok()?;
    out.ancestors().find_map(|dir| LocalStorage.free_space(dir).ok())
}
