//! `moerge push`: uploads a model folder.

use std::{path::PathBuf, process::ExitCode};

use moerge_core::{ErrorKind, model::locate::HubId};
use moerge_hub::{PushOptions, Pushed};

use super::{folder, hub};
use crate::{
    console, interrupt,
    numbers::{bytes, count},
    progress::Reporter,
    terminal::{HINT, LABEL, one_line, styled},
};

/// Upload a model folder to the Hugging Face Hub
///
/// Creates the repository if needed, sends the large files that the Hub does not have yet, makes one commit, and checks
/// what arrived. Other files in the repository are kept.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge push out you/my-moe
  moerge push out you/my-moe --private --branch v2

Environment:
  HF_TOKEN      token with write access (or run `hf auth login`)
  HF_ENDPOINT   a Hub other than https://huggingface.co")]
pub struct Args {
    /// The model folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The repository on the Hub: user/name
    #[arg(value_name = "REPO", value_parser = repository)]
    repo: HubId,
    /// Make the new repository private
    #[arg(long)]
    private: bool,
    /// The branch to commit to; created if needed
    #[arg(long, value_name = "BRANCH", default_value = "main", value_parser = branch)]
    branch: String,
    /// Commit message
    #[arg(short, long, value_name = "TEXT", default_value = MESSAGE)]
    message: String,
    /// Print JSON events, one per line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print only warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

/// The default commit message.
pub const MESSAGE: &str = "Upload with moerge";

/// Uploads the folder and prints its address.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let id = HubId { revision: args.branch.clone(), ..args.repo.clone() };
    let reporter = Reporter::new(args.json, args.quiet, false);
    let options = PushOptions { private: args.private, message: args.message.clone() };
    let pushed = hub(&reporter)?.push(&folder(&args.dir), &id, &options, &reporter);
    reporter.close();
    match pushed {
        Ok(pushed) => print_summary(&pushed, &reporter, args.json, args.quiet)?,
        Err(error) => {
            reporter.failed(&error);
            if error.kind() == ErrorKind::Interrupted {
                console::status("stopped: nothing was committed; uploaded files are not sent again");
                console::status(&format!("{} rerun the command to resume", styled(HINT, "next:")));
                return Ok(ExitCode::from(interrupt::INTERRUPTED));
            }
            return Err(error.into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Parses `user/name` or `org/name`.
pub fn repository(written: &str) -> Result<HubId, String> {
    let id = HubId::parse(written, None).ok().filter(HubId::has_owner);
    id.ok_or_else(|| "not a repository on the Hub; expected user/name or org/name".to_owned())
}

fn branch(written: &str) -> Result<String, String> {
    let named = HubId::parse("user/name", Some(written));
    named.map(|id| id.revision).map_err(|_| "not a valid branch name".to_owned())
}

/// Prints the repository's address, and what was sent.
pub fn print_summary(pushed: &Pushed, reporter: &Reporter, json: bool, quiet: bool) -> anyhow::Result<()> {
    if json {
        reporter.result(serde_json::json!({
            "url": pushed.url, "commit": pushed.commit, "unchanged": pushed.unchanged, "files": pushed.files,
            "bytes": pushed.bytes, "sent": pushed.sent,
        }))?;
        return Ok(());
    }
    if quiet {
        return Ok(());
    }
    let what = if pushed.unchanged {
        "already up to date".to_owned()
    } else {
        let commit = pushed.commit.get(..8).unwrap_or(&pushed.commit);
        format!("{}, {}, commit {}", count(pushed.files, "file"), bytes(pushed.bytes), one_line(commit))
    };
    console::results().line(&format!("{} {what}", styled(LABEL, &one_line(&pushed.url))))?;
    Ok(())
}
