//! `moerge inspect`: a page about a model folder, an adapter, or a model on the Hub.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use moerge_checkpoint::ReadStorage;
use moerge_core::{
    inspect::{FolderKind, Inspection, TensorGroup, inspect},
    model::{families::is_known, locate::HubId},
};
use moerge_hub::{HubStorage, RepoKind};
use serde_json::json;

use super::{
    adapter_pair, folder, hub, on_hub,
    storages::{self, models},
};
use crate::{
    console,
    numbers::{bytes, count, parameters},
    progress::Reporter,
    terminal::{DIM, LABEL, one_line, path_text, styled, table},
};

/// Show what a model folder or GGUF file contains: dense model, MoE, adapter or something else
///
/// Reads only headers and small files, so it is fast for models of any size.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge inspect out
  moerge inspect org/name                   only its headers are downloaded
  moerge inspect mistral-7b+my-lora         the model and its adapter
  moerge inspect --json out | jq .parameters")]
pub struct Args {
    /// A folder with a model or a PEFT adapter, a GGUF file, or org/name on the Hub; or MODEL+ADAPTER
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints what the folder contains.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = console::results();
    let Some((model, adapter)) = adapter_pair(&args.dir) else {
        let found = find(&args.dir)?;
        match args.json {
            true => writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?,
            false => out.lines(page(&found, &args.dir))?,
        }
        return Ok(ExitCode::SUCCESS);
    };
    let (of_model, of_adapter) = (find(&model)?, find(&adapter)?);
    if args.json {
        writeln!(out, "{:#}", json!({ "model": of_model, "adapter": of_adapter }))?;
        return Ok(ExitCode::SUCCESS);
    }
    out.lines(page(&of_model, &model))?;
    out.line("")?;
    out.lines(page(&of_adapter, &adapter))?;
    Ok(ExitCode::SUCCESS)
}

/// Inspects a folder or a model on the Hub.
fn find(dir: &Path) -> moerge_core::Result<Inspection> {
    match on_hub(dir) {
        Some(id) => inspect_on_hub(&id),
        None => inspect(&models(), &folder(dir)),
    }
}

/// The output for people.
fn page(found: &Inspection, dir: &Path) -> Vec<String> {
    let facts: Vec<Vec<String>> = facts(found, dir)
        .into_iter()
        .map(|(name, value)| vec![format!("  {}", styled(LABEL, name)), one_line(&value)])
        .collect();
    let mut lines = vec![styled(LABEL, &one_line(&headline(found)))];
    lines.extend(table(&facts, &[]));
    lines.push(String::new());
    lines.extend(table(&parts(found), &[1, 2, 3]));
    lines
}

/// Inspects a model in the cache, or else its headers on the Hub.
fn inspect_on_hub(id: &HubId) -> moerge_core::Result<Inspection> {
    let hub = hub(&Reporter::new(false, false, false))?;
    let local = models();
    match hub.cached(id) {
        Some(folder) => inspect(&local, &folder),
        None => {
            let remote = HubStorage::new(hub, storages::shared());
            let dir = remote.mount(id, RepoKind::Either)?;
            let storage: Arc<dyn ReadStorage> = remote;
            inspect(&storage, &dir)
        }
    }
}

/// `mixtral, 4 experts, 2 per token: 24.15 B parameters, 12.88 B active`
fn headline(found: &Inspection) -> String {
    let family = found.model_type.as_deref().unwrap_or("unknown");
    let what = match (found.kind, &found.moe) {
        (FolderKind::Moe, Some(moe)) => {
            let shared = if moe.shared.is_some() { " and a shared one" } else { "" };
            format!("{family}, {} experts{shared}, {} per token", moe.experts, moe.experts_per_token)
        }
        (FolderKind::Adapter, _) => {
            let adapter = found.adapter.as_ref();
            let kind = match adapter.and_then(|a| a.peft_type.as_deref()) {
                Some("LORA") => "LoRA",
                kind => kind.unwrap_or("PEFT"),
            };
            format!("{kind} adapter")
        }
        (FolderKind::Unknown, _) if is_known(family) => format!("{family}, which cannot be described (see note)"),
        (FolderKind::Unknown, _) => format!("{family}, a family that moerge does not know"),
        _ => format!("{family}, dense"),
    };
    let active = if found.active_parameters < found.parameters {
        format!(", {} active", parameters(found.active_parameters))
    } else {
        String::new()
    };
    format!("{what}: {} parameters{active}", parameters(found.parameters))
}

fn facts(found: &Inspection, dir: &Path) -> Vec<(&'static str, String)> {
    let mut facts = vec![("folder", path_text(dir))];
    facts.extend(found.class.clone().map(|class| ("class", class)));
    let dtypes: Vec<&str> = found.dtypes.keys().map(String::as_str).collect();
    let (files, tensors) = (count(found.files.len(), "file"), count(found.tensors, "tensor"));
    facts.push(("weights", format!("{} in {files}, {tensors}, {}", bytes(found.bytes), dtypes.join(" and "))));
    if let Some(sizes) = &found.sizes {
        let width = if found.moe.is_some() { "experts" } else { "FFN" };
        let (hidden, ffn) = (sizes.hidden, sizes.intermediate);
        facts.push(("layers", format!("{}, {hidden} wide, {width} {ffn} wide", sizes.layers)));
        let (heads, kv, each) = (sizes.heads, sizes.kv_heads, sizes.head_dim);
        let window = sizes.sliding_window.map(|w| format!(", sliding window {w}")).unwrap_or_default();
        facts.push(("attention", format!("{heads} heads of {each}, {kv} for keys and values{window}")));
        let tied = if sizes.tied_embeddings { ", head tied to the embeddings" } else { "" };
        facts.push(("vocabulary", format!("{}{tied}", sizes.vocabulary)));
        facts.push(("context", format!("{} tokens", sizes.context)));
    }
    if let Some(shared) = found.moe.as_ref().and_then(|m| m.shared) {
        facts.push(("shared", format!("an expert {shared} wide, used by every token")));
    }
    if let Some(adapter) = &found.adapter {
        facts.extend(adapter.base_model.clone().map(|base| ("made for", base)));
        let numbers = [
            adapter.rank.map(|r| format!("rank {r}")),
            adapter.alpha.map(|a| format!("alpha {a}")),
            (!adapter.variants.is_empty()).then(|| adapter.variants.join(", ")),
        ];
        facts.push(("adapter", numbers.into_iter().flatten().collect::<Vec<_>>().join(", ")));
        facts.push(("modules", adapter.target_modules.join(", ")));
    } else {
        let template = match &found.chat_template {
            Some(file) => format!("; chat template in {file}"),
            None => "; no chat template".to_owned(),
        };
        let none = found.tokenizer.is_empty();
        facts.push(("tokenizer", if none { "none".into() } else { found.tokenizer.join(", ") + &template }));
    }
    if let Some(made_by) = &found.made_by {
        let sources = made_by.sources.join(", ");
        facts.push(("made by", format!("moerge {} from {sources}", made_by.moerge_version)));
    }
    facts.extend(found.notes.iter().map(|note| ("note", note.clone())));
    facts
}

/// The table of parts, with its header.
fn parts(found: &Inspection) -> Vec<Vec<String>> {
    const SHOWN: usize = 60;
    let head = ["part", "tensors", "parameters", "share", "dtype", "shape"];
    let mut rows = vec![head.map(|h| styled(DIM, h)).to_vec()];
    let row = |part: &TensorGroup| {
        let share = 100.0 * part.parameters as f64 / found.parameters.max(1) as f64;
        let shapes: Vec<String> = part.shapes.iter().take(3).map(|s| format!("{s:?}")).collect();
        let more = if part.shapes.len() > 3 { " ..." } else { "" };
        vec![
            one_line(&part.name),
            part.tensors.to_string(),
            parameters(part.parameters),
            format!("{share:.1} %"),
            part.dtypes.iter().map(String::as_str).collect::<Vec<_>>().join(" "),
            format!("{}{more}", shapes.join(" ")),
        ]
    };
    rows.extend(found.parts.iter().take(SHOWN).map(row));
    if found.parts.len() > SHOWN {
        rows.push(vec![format!("and {} more (use --json to see all)", found.parts.len() - SHOWN)]);
    }
    rows
}
