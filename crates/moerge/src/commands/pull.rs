//! `moerge pull`: downloads models into the cache.

use std::{io::Write as _, process::ExitCode};

use moerge_core::{ErrorKind, model::locate::HubId, recipe::ModelRef};
use moerge_hub::RepoKind;

use super::hub;
use crate::{
    console, interrupt,
    numbers::bytes,
    progress::Reporter,
    terminal::{HINT, one_line, path_text, styled},
};

/// Download models from the Hugging Face Hub
///
/// Downloads only what a model needs (config, tokenizer, and its weights in one format) into the cache that Python's
/// huggingface_hub and transformers use. Every byte is checked against the Hub's hashes. Run the same command again to
/// resume an interrupted download.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge pull mlabonne/AlphaMonarch-7B
  moerge pull org/name@v1.0 org/other              a revision, and several models at once
  HF_TOKEN=hf_... moerge pull org/private          or `hf auth login` once

Environment:
  HF_HOME, HF_HUB_CACHE   the cache folder
  HF_TOKEN                access token (or run `hf auth login`)
  HF_ENDPOINT             a Hub other than https://huggingface.co")]
pub struct Args {
    /// Models or adapters on the Hub: org/name, or org/name@revision
    #[arg(value_name = "REPO", required = true, value_parser = id)]
    repos: Vec<HubId>,
    /// Print JSON events, one per line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print only the folders
    #[arg(short, long)]
    quiet: bool,
}

/// Downloads the models and prints their folders.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let models: Vec<_> = args.repos.iter().map(|id| (id.clone(), RepoKind::Either)).collect();
    let reporter = Reporter::new(args.json, args.quiet, false);
    let hub = hub(&reporter)?;
    let pulled = hub.pull(&models, &reporter);
    reporter.close();
    let pulled = match pulled {
        Ok(pulled) => pulled,
        Err((_, error)) => {
            reporter.failed(&error);
            if error.kind() == ErrorKind::Interrupted {
                console::status("stopped: finished downloads are kept");
                console::status(&format!("{} rerun the command to resume", styled(HINT, "next:")));
                return Ok(ExitCode::from(interrupt::INTERRUPTED));
            }
            return Err(error.into());
        }
    };
    for model in &pulled {
        let folder = path_text(&model.folder);
        if args.json {
            let id = model.listing.id.to_string();
            let (commit, bytes) = (&model.listing.commit, model.bytes);
            reporter.result(serde_json::json!({ "id": id, "commit": commit, "folder": folder, "bytes": bytes }))?;
            continue;
        }
        if !args.quiet {
            console::status(&format!("{}: {}", one_line(&model.listing.id.to_string()), bytes(model.bytes)));
        }
        writeln!(console::results(), "{folder}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Parses `org/name[@revision]`.
fn id(written: &str) -> Result<HubId, String> {
    let not_one = |why: Option<String>| {
        format!("not a model on the Hub; {}", why.as_deref().unwrap_or("expected org/name, or org/name@revision"))
    };
    let reference = ModelRef::parse(written).map_err(|why| not_one(Some(why.into())))?;
    if reference.adapter.is_some() {
        return Err(not_one(Some("name the model and the adapter separately".into())));
    }
    HubId::parse(&reference.model, reference.revision.as_deref()).map_err(not_one)
}
