//! `plan` of a dense merge.

use std::{io::Write as _, process::ExitCode, sync::Arc};

use moerge_checkpoint::ReadStorage;
use moerge_core::{plan::DenseSummary, recipe::DenseRecipe};
use moerge_lib::{
    export::PlannedFiles,
    merge::{EarlierModels, MergeOptions, prepare_dense},
};
use serde_json::json;

use super::{Args, free_space, gguf, page::row};
use crate::{
    commands::{build::recipe_dir, folder},
    console, diagnostics,
    numbers::{bytes, count, memory, parameters},
    terminal::{LABEL, harmless, styled, table},
};

/// Prints the plan.
pub fn run(
    args: &Args,
    storage: &Arc<dyn ReadStorage>,
    recipe: DenseRecipe,
    made: &EarlierModels,
    options: &MergeOptions,
) -> anyhow::Result<ExitCode> {
    let prepared = prepare_dense(storage, recipe, made, recipe_dir(&folder(&args.recipe)), options)?;
    let out = folder(&args.out);
    let files = prepared.files(storage.as_ref(), &out, options.optional_files)?;
    let gguf = args.gguf.plan_options(&out)?;
    let gguf =
        gguf.map(|(export, imatrix)| prepared.gguf_plan(storage.as_ref(), &out, &export, imatrix.as_ref(), options));
    let gguf = gguf.transpose()?;
    let imatrix = gguf.as_ref().and_then(|gguf| gguf.imatrix_memory).map_or(0, |memory| memory.needed);
    let need = prepared.memory(options).max(imatrix);
    let max_bytes = gguf.as_ref().map_or_else(|| prepared.max_bytes(&files), PlannedFiles::bytes);
    let free = free_space(&out);
    let summary = prepared.summary();
    let mut results = console::results();
    if args.json {
        let mut plan = serde_json::to_value(&summary)?;
        plan["output"] = json!({ "weight_bytes": summary.weight_bytes, "max_bytes": max_bytes, "disk_free": free });
        plan["memory"] = json!({ "needed": need, "budget": options.memory });
        if let Some(gguf) = &gguf {
            plan["gguf"] = gguf::json(gguf);
        }
        writeln!(results, "{plan:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    results.lines(lines(&summary, max_bytes, free, need))?;
    results.lines(gguf.iter().flat_map(gguf::lines))?;
    for warning in summary.warnings.iter().cloned().chain(gguf.iter().flat_map(PlannedFiles::warnings)) {
        diagnostics::warning(&warning);
    }
    if let Some(Err(error)) = gguf.map(|gguf| gguf.imatrix_within(options.memory)) {
        diagnostics::warning(&diagnostics::as_warning(&error));
    }
    Ok(ExitCode::SUCCESS)
}

/// The plan for people. `max_bytes` bounds the size of the finished folder, `free` the space on its disk, `need` the peak
/// memory of a run.
fn lines(plan: &DenseSummary, max_bytes: u64, free: Option<u64>, need: u64) -> Vec<String> {
    let layers = plan.layers.map(|layers| format!(", {layers} layers")).unwrap_or_default();
    let size = parameters(plan.parameters);
    let what = format!("{}, {}{layers}: {size} parameters", plan.architecture, plan.merge_method);
    let mut lines = vec![styled(LABEL, &what)];
    let models = plan.models.iter().map(|model| {
        let label = if model.base { "base" } else { "model" };
        vec![row(label), harmless(&model.reference), bytes(model.bytes)]
    });
    lines.extend(table(&models.collect::<Vec<_>>(), &[]));
    let free = free.map(|f| format!("; {} free on the disk", bytes(f))).unwrap_or_default();
    let shards = count(plan.shards.len(), "shard");
    let facts = [
        ("reads", bytes(plan.source_bytes)),
        ("weights", format!("{} ({} bytes) in {shards}", bytes(plan.weight_bytes), plan.weight_bytes)),
        ("output", format!("at most {}{free}", bytes(max_bytes))),
        ("tensors", plan.tensors.to_string()),
        ("memory", memory(need)),
    ];
    lines.push(String::new());
    let facts: Vec<Vec<String>> = facts.into_iter().map(|(name, value)| vec![row(name), value]).collect();
    lines.extend(table(&facts, &[]));
    let unused = plan.unused.iter().map(|u| {
        vec![row("unused"), harmless(&u.source), harmless(&u.what), count(u.tensors, "tensor"), bytes(u.bytes)]
    });
    let unused: Vec<Vec<String>> = unused.collect();
    if !unused.is_empty() {
        lines.push(String::new());
        lines.extend(table(&unused, &[]));
    }
    lines
}
