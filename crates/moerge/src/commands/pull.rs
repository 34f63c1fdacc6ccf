use std::{io::Write as _, process::ExitCode};

use moerge_core::{ErrorKind, model::locate::HubId, recipe::ModelRef};
use moerge_hub::Wanted;

use super::hub;
use crate::{
    COULD_NOT,
    numbers::bytes,
    progress::Reporter,
    terminal::{HINT, harmless, styled},
};

/// Download models from the Hugging Face Hub
///
/// Only what a model needs: config, tokenizer, and its weights in one format. They go where Python's huggingface_hub and
/// transformers look for them. Every byte is checked against the hash that the Hub announced. A download that stopped
/// goes on where it stopped when the same command is run again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge pull mlabonne/AlphaMonarch-7B
  moerge pull org/name@v1.0 org/other              a revision; several at a time
  HF_TOKEN=hf_... moerge pull org/private          or `hf auth login` once

Environment:
  HF_HOME, HF_HUB_CACHE   where downloads go
  HF_TOKEN                who asks; the file that `hf auth login` writes counts too
  HF_ENDPOINT             another Hub than https://huggingface.co")]
pub struct Args {
    /// Models or adapters on the Hub: org/name, or org/name@revision
    #[arg(value_name = "REPO", required = true, value_parser = id)]
    repos: Vec<HubId>,
    /// Print the result as JSON events, one a line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Only print the folders
    #[arg(short, long)]
    quiet: bool,
}

/// Downloads and prints the folders.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let models: Vec<_> = args.repos.iter().map(|id| (id.clone(), Wanted::Either)).collect();
    let reporter = Reporter::new(args.json, args.quiet, false);
    let hub = hub(&reporter)?;
    let pulled = hub.pull(&models, &reporter);
    reporter.close();
    let pulled = match pulled {
        Ok(pulled) => pulled,
        Err((_, error)) => {
            reporter.failed(&error);
            if error.kind() == ErrorKind::Interrupted {
                anstream::eprintln!("stopped: what is downloaded is kept");
                anstream::eprintln!("{} the same command goes on where it was", styled(HINT, "next:"));
                return Ok(ExitCode::from(COULD_NOT));
            }
            return Err(error.into());
        }
    };
    for model in &pulled {
        let folder = harmless(&model.folder.display().to_string());
        if args.json {
            let id = model.listing.id.to_string();
            let (commit, bytes) = (&model.listing.commit, model.bytes);
            reporter.result(serde_json::json!({ "id": id, "commit": commit, "folder": folder, "bytes": bytes }));
            continue;
        }
        if !args.quiet {
            anstream::eprintln!("{}: {}", harmless(&model.listing.id.to_string()), bytes(model.bytes));
        }
        writeln!(anstream::stdout(), "{folder}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is meant by `org/name[@revision]`.
fn id(written: &str) -> Result<HubId, String> {
    let not_one = |why: Option<String>| {
        format!(
            "not the name of a model on the Hub; {}",
            why.as_deref().unwrap_or("expected org/name, or org/name@revision")
        )
    };
    let reference = ModelRef::parse(written).map_err(|why| not_one(Some(why.into())))?;
    if reference.adapter.is_some() {
        return Err(not_one(Some("give the model and the adapter apart from each other".into())));
    }
    HubId::parse(&reference.model, reference.revision.as_deref()).map_err(not_one)
}
