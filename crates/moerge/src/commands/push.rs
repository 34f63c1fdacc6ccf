use std::{io::Write as _, path::PathBuf, process::ExitCode};

use moerge_core::{ErrorKind, model::locate::HubId};
use moerge_hub::{PushOptions, Pushed};

use super::{folder, hub};
use crate::{
    COULD_NOT,
    numbers::{bytes, count},
    progress::Reporter,
    terminal::{HINT, LABEL, harmless, styled},
};

/// Upload a model folder to the Hugging Face Hub
///
/// Makes the repository if it is not there, sends the large files that the Hub does not have yet, commits once, and
/// compares what arrived with what is here. Other files in the repository stay.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge push out you/my-moe
  moerge push out you/my-moe --private --branch v2

Environment:
  HF_TOKEN      a token that may write; `hf auth login` does as well
  HF_ENDPOINT   another Hub than https://huggingface.co")]
pub struct Args {
    /// The folder that `moerge merge` made
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The repository on the Hub: user/name
    #[arg(value_name = "REPO", value_parser = repository)]
    repo: HubId,
    /// Let only the owner see a repository that is made
    #[arg(long)]
    private: bool,
    /// The branch to commit to; made if it is not there
    #[arg(long, value_name = "BRANCH", default_value = "main", value_parser = branch)]
    branch: String,
    /// The commit's message
    #[arg(short, long, value_name = "TEXT", default_value = MESSAGE)]
    message: String,
    /// Print the result as JSON events, one a line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Only say what is wrong
    #[arg(short, long)]
    quiet: bool,
}

/// The message of a commit where none is given.
pub const MESSAGE: &str = "Upload with moerge";

/// Uploads and says where it is.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let id = HubId { revision: args.branch.clone(), ..args.repo.clone() };
    let reporter = Reporter::new(args.json, args.quiet, false);
    let options = PushOptions { private: args.private, message: args.message.clone() };
    let pushed = hub(&reporter)?.push(&folder(&args.dir), &id, &options, &reporter);
    reporter.close();
    match pushed {
        Ok(pushed) => told(&pushed, &reporter, args.json, args.quiet)?,
        Err(error) => {
            reporter.failed(&error);
            if error.kind() == ErrorKind::Interrupted {
                anstream::eprintln!("stopped: nothing was committed; files that were sent are not sent again");
                anstream::eprintln!("{} the same command goes on", styled(HINT, "next:"));
                return Ok(ExitCode::from(COULD_NOT));
            }
            return Err(error.into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The repository `user/name` or `org/name`.
pub fn repository(written: &str) -> Result<HubId, String> {
    let id = HubId::parse(written, None).ok().filter(HubId::has_owner);
    id.ok_or_else(|| "not the name of a repository on the Hub; expected user/name or org/name".to_owned())
}

fn branch(written: &str) -> Result<String, String> {
    let named = HubId::parse("user/name", Some(written));
    named.map(|id| id.revision).map_err(|_| "not the name of a branch".to_owned())
}

/// Where it is, and what was sent.
pub fn told(pushed: &Pushed, reporter: &Reporter, json: bool, quiet: bool) -> anyhow::Result<()> {
    if json {
        reporter.result(serde_json::json!({
            "url": pushed.url, "commit": pushed.commit, "unchanged": pushed.unchanged, "files": pushed.files,
            "bytes": pushed.bytes, "sent": pushed.sent,
        }));
        return Ok(());
    }
    if quiet {
        return Ok(());
    }
    let what = if pushed.unchanged {
        "all of it was there already".to_owned()
    } else {
        let commit = pushed.commit.get(..8).unwrap_or(&pushed.commit);
        format!("{}, {}, commit {}", count(pushed.files, "file"), bytes(pushed.bytes), harmless(commit))
    };
    writeln!(anstream::stdout(), "{} {what}", styled(LABEL, &harmless(&pushed.url)))?;
    Ok(())
}
