use std::{io::Write as _, path::PathBuf, process::ExitCode, sync::Arc};

use moerge_checkpoint::{LocalStorage, Storage};
use moerge_core::{
    inspect::{FolderKind, Inspection, Part, inspect},
    model::{families::is_known, locate::HubId},
};
use moerge_hub::{HubStorage, Wanted};

use super::{folder, hub, on_hub};
use crate::{
    numbers::{bytes, count, parameters},
    progress::Reporter,
    terminal::{DIM, LABEL, harmless, styled, table},
};

/// Show what is in a model folder: dense model, MoE, adapter or something else
///
/// Reads headers and small files only, so it is quick whatever the size of the model.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge inspect out
  moerge inspect --json out | jq .parameters")]
pub struct Args {
    /// A model folder, or one of a PEFT adapter, or org/name on the Hub
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Prints what the folder is.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let found = match on_hub(&args.dir) {
        Some(id) => inspect_on_hub(&id)?,
        None => {
            let storage: Arc<dyn Storage> = Arc::new(LocalStorage);
            inspect(&storage, &folder(&args.dir))?
        }
    };
    let mut out = anstream::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}", styled(LABEL, &harmless(&headline(&found))))?;
    let facts: Vec<Vec<String>> = facts(&found, args)
        .into_iter()
        .map(|(name, value)| vec![format!("  {}", styled(LABEL, name)), harmless(&value)])
        .collect();
    for line in table(&facts, &[]) {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    for line in table(&parts(&found), &[1, 2, 3]) {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A model that may be in the cache; where it is not, its headers are read from the Hub.
fn inspect_on_hub(id: &HubId) -> moerge_core::Result<Inspection> {
    let hub = hub(&Reporter::new(false, false, false))?;
    let local: Arc<dyn Storage> = Arc::new(LocalStorage);
    match hub.cached(id) {
        Some(folder) => inspect(&local, &folder),
        None => {
            let remote = HubStorage::new(hub);
            let dir = remote.mount(id, Wanted::Either)?;
            let storage: Arc<dyn Storage> = remote;
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
        (FolderKind::Unknown, _) if is_known(family) => format!("{family}, which cannot be described (see the note)"),
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

fn facts(found: &Inspection, args: &Args) -> Vec<(&'static str, String)> {
    let mut facts = vec![("folder", args.dir.display().to_string())];
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
        facts.push(("shared", format!("an expert {shared} wide that every token goes through")));
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

/// The table of parts, its head first.
fn parts(found: &Inspection) -> Vec<Vec<String>> {
    const SHOWN: usize = 60;
    let head = ["part", "tensors", "parameters", "share", "dtype", "shape"];
    let mut rows = vec![head.map(|h| styled(DIM, h)).to_vec()];
    let row = |part: &Part| {
        let share = 100.0 * part.parameters as f64 / found.parameters.max(1) as f64;
        let shapes: Vec<String> = part.shapes.iter().take(3).map(|s| format!("{s:?}")).collect();
        let more = if part.shapes.len() > 3 { " ..." } else { "" };
        vec![
            harmless(&part.name),
            part.tensors.to_string(),
            parameters(part.parameters),
            format!("{share:.1} %"),
            part.dtypes.iter().map(String::as_str).collect::<Vec<_>>().join(" "),
            format!("{}{more}", shapes.join(" ")),
        ]
    };
    rows.extend(found.parts.iter().take(SHOWN).map(row));
    if found.parts.len() > SHOWN {
        rows.push(vec![format!("and {} more (all of them: --json)", found.parts.len() - SHOWN)]);
    }
    rows
}
