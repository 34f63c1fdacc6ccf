use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use checkpoint::{LocalStorage, Storage};
use moerge::{
    merge::{MergeOptions, prepare},
    model_source::{NotHere, locate},
    plan::{ExpertSummary, PlanSummary},
    recipe::{Expert, ModelRef, Recipe},
};
use serde_json::{Value, json};

use super::{
    build::{BuildArgs, recipe_dir},
    folder,
};
use crate::{
    COULD_NOT, diagnostics,
    terminal::{DIM, HINT, LABEL, bytes, count, harmless, memory, parameters, styled, table},
};

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
    let missing = missing(&recipe, recipe_dir(&path), &options);
    if !missing.is_empty() {
        return without_models(args, &recipe, &missing);
    }
    let prepared = prepare(&storage, recipe, recipe_dir(&path), &options)?;
    let out = folder(&args.out);
    let (_, output_bytes) = prepared.files(storage.as_ref(), &out, options.wanted)?;
    let free = free_space(storage.as_ref(), &out);
    let summary = PlanSummary::new(&prepared.recipe, &prepared.models, &prepared.plan);
    let mut stdout = anstream::stdout();
    if args.json {
        let mut plan = serde_json::to_value(&summary)?;
        plan["output"] = json!({ "bytes": output_bytes, "disk_free": free });
        writeln!(stdout, "{plan:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in lines(&summary, output_bytes, free, args.build.memory()) {
        writeln!(stdout, "{line}")?;
    }
    for warning in &summary.warnings {
        diagnostics::warning(warning);
    }
    Ok(ExitCode::SUCCESS)
}

/// The plan for people.
fn lines(plan: &PlanSummary, output_bytes: u64, free: Option<u64>, budget: u64) -> Vec<String> {
    let class = plan.architecture.as_str();
    let shared = if plan.shared_expert.is_some() { " and a shared one" } else { "" };
    let what = format!("{class}, {} experts{shared}, {} per token", plan.experts, plan.experts_per_token);
    let size = format!("{} parameters, {} active", parameters(plan.parameters), parameters(plan.active_parameters));
    let base = &plan.base;
    let mut models = vec![vec![
        row("base"),
        harmless(&base.reference),
        format!("{}, {}: attention, norms, embeddings, head", base.model_type, base.dtype),
    ]];
    let expert = |label: &str, e: &ExpertSummary| {
        let prompts = prompts(&e.positive_prompts, &e.negative_prompts);
        vec![row(label), harmless(&e.model.reference), prompts]
    };
    models.extend(plan.expert_models.iter().enumerate().map(|(i, e)| expert(&format!("expert {i}"), e)));
    models.extend(plan.shared_expert.iter().map(|e| expert("shared", e)));
    let mut lines = vec![styled(LABEL, &format!("{what}: {size}"))];
    lines.extend(table(&models, &[]));

    let copied = match plan.tensors_copied {
        n if n == plan.tensors => "all copied bit for bit".to_owned(),
        n => format!("{n} copied bit for bit"),
    };
    let shards = count(plan.shards.len(), "shard");
    let free = free.map(|f| format!("; the disk has {} free", bytes(f))).unwrap_or_default();
    let facts = [
        ("why", format!("{class} {}", plan.why)),
        ("routers", routers(plan)),
        ("reads", bytes(plan.source_bytes)),
        ("output", format!("{} ({output_bytes} bytes) in {shards}{free}", bytes(output_bytes))),
        ("tensors", format!("{}, {}, {copied}", plan.tensors, plan.dtype)),
        ("memory", format!("within {}", memory(budget))),
    ];
    lines.push(String::new());
    let facts: Vec<Vec<String>> = facts.into_iter().map(|(name, value)| vec![row(name), harmless(&value)]).collect();
    lines.extend(table(&facts, &[]));
    if !plan.unused.is_empty() {
        let unused = plan.unused.iter().map(|u| {
            let (tensors, size) = (count(u.tensors, "tensor"), bytes(u.bytes));
            vec![row("unused"), harmless(&u.source), harmless(&u.what), tensors, size]
        });
        lines.push(String::new());
        lines.extend(table(&unused.collect::<Vec<_>>(), &[3, 4]));
    }
    lines
}

fn row(label: &str) -> String {
    format!("  {}", styled(LABEL, label))
}

fn routers(plan: &PlanSummary) -> String {
    let how = match plan.gate_mode.as_str() {
        "random" | "uniform_random" => "for training afterwards",
        "cheap_embed" => "from the embeddings",
        _ => "one pass over the base",
    };
    match plan.prompts {
        0 => format!("{}, {how}", plan.gate_mode),
        n => format!("{}, {}, {how}", plan.gate_mode, count(n, "prompt")),
    }
}

/// The first prompts in quotes, and how many more there are.
fn prompts(positive: &[String], negative: &[String]) -> String {
    const SHOWN: usize = 3;
    const LONGEST: usize = 24;
    let list = |prompts: &[String]| {
        let mut shown: Vec<String> = prompts
            .iter()
            .take(SHOWN)
            .map(|prompt| {
                let prompt = harmless(prompt).replace(['\n', '\t'], " ");
                match prompt.char_indices().nth(LONGEST) {
                    Some((end, _)) => format!("\"{}...\"", &prompt[..end]),
                    None => format!("\"{prompt}\""),
                }
            })
            .collect();
        if prompts.len() > SHOWN {
            shown.push(styled(DIM, &format!("+{}", prompts.len() - SHOWN)));
        }
        shown.join(" ")
    };
    match (positive, negative) {
        ([], []) => String::new(),
        (some, []) => list(some),
        (some, not) => format!("{} not {}", list(some), list(not)),
    }
}

/// Free bytes on the disk that holds `out`, or would.
fn free_space(storage: &dyn Storage, out: &Path) -> Option<u64> {
    let out = std::path::absolute(out).ok()?;
    out.ancestors().find_map(|dir| storage.free_space(dir).ok())
}

/// The references of a recipe that are not on this machine, each once.
fn missing(recipe: &Recipe, recipe_dir: &Path, options: &MergeOptions) -> Vec<(String, NotHere)> {
    let experts = recipe.experts.iter().chain(&recipe.shared_experts).map(|e| &e.source_model.value);
    let mut missing: Vec<(String, NotHere)> = Vec::new();
    for reference in std::iter::once(&recipe.base_model.value).chain(experts) {
        let name = reference.to_string();
        if missing.iter().any(|(seen, _)| *seen == name) {
            continue;
        }
        if let Err(not_here) = locate(reference, recipe_dir, &options.cache) {
            missing.push((name, not_here));
        }
    }
    missing
}

/// What the recipe alone says, and how to get the models that are missing.
fn without_models(args: &Args, recipe: &Recipe, missing: &[(String, NotHere)]) -> anyhow::Result<ExitCode> {
    let here = |reference: &ModelRef| !missing.iter().any(|(name, _)| *name == reference.to_string());
    let mut stdout = anstream::stdout();
    let experts =
        recipe.experts.iter().map(|e| ("expert", e)).chain(recipe.shared_experts.iter().map(|e| ("shared", e)));
    if args.json {
        let expert = |e: &Expert| {
            json!({
                "reference": e.source_model.value.to_string(), "downloaded": here(&e.source_model.value),
                "positive_prompts": e.positive_prompts, "negative_prompts": e.negative_prompts,
            })
        };
        let base = &recipe.base_model.value;
        let plan = json!({
            "base": { "reference": base.to_string(), "downloaded": here(base) },
            "expert_models": recipe.experts.iter().map(expert).collect::<Value>(),
            "experts_per_token": recipe.experts_per_token.value, "gate_mode": recipe.gate_mode.name(),
            "not_downloaded": missing.iter().map(|(name, _)| name.as_str()).collect::<Value>(),
        });
        writeln!(stdout, "{plan:#}")?;
    } else {
        let state = |reference: &ModelRef| {
            if here(reference) { "here".to_owned() } else { styled(HINT, "not downloaded") }
        };
        let base = &recipe.base_model.value;
        let mut rows = vec![vec![row("base"), harmless(&base.to_string()), state(base)]];
        rows.extend(experts.map(|(label, e)| {
            let reference = &e.source_model.value;
            let prompts = prompts(&e.positive_prompts, &e.negative_prompts);
            vec![row(&label), harmless(&reference.to_string()), state(reference), prompts]
        }));
        let (experts, per_token) = (recipe.experts.len(), recipe.experts_per_token.value);
        let what = format!("{experts} experts, {per_token} per token, gate_mode {}", recipe.gate_mode.name());
        writeln!(stdout, "{}", styled(LABEL, &what))?;
        for line in table(&rows, &[]) {
            writeln!(stdout, "{line}")?;
        }
    }
    let first = moerge::Error::from(missing[0].1.clone());
    let mut error = moerge::Error::input(match missing.len() {
        1 => first.parts().message.clone(),
        n => format!("{n} models are not on this machine"),
    });
    for (_, not_here) in missing {
        for hint in &moerge::Error::from(not_here.clone()).parts().hints {
            error = error.hint(hint.clone());
        }
    }
    diagnostics::error(&error);
    Ok(ExitCode::from(COULD_NOT))
}
