//! The commands, one a file.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
};

use moerge_core::{
    model::locate::{self, HubCache, HubId},
    recipe::ModelRef,
};
use moerge_hub::{Hub, HubSettings};

use crate::{args::Command, interrupt, progress::Reporter};

mod build;
pub mod chat;
pub mod completions;
pub mod eval;
pub mod generate;
pub mod inspect;
pub mod man;
pub mod merge;
mod placing;
pub mod plan;
pub mod pull;
pub mod push;
pub mod route;
mod running;
pub mod serve;
pub mod verify;

/// Runs a command to its end.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Merge(args) => merge::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Route(args) => route::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// The Hub of the environment. `reporter` tells of every wait for it, which Ctrl-C ends.
fn hub(reporter: &Reporter) -> moerge_core::Result<Arc<Hub>> {
    Ok(Hub::new(HubSettings::from_env()?, Arc::new(interrupt::requested), reporter.notes()))
}

/// The model on the Hub, `org/name[@revision]`, that an argument means which is no path.
fn on_hub(path: &Path) -> Option<HubId> {
    let written = path.to_str().filter(|_| !path.exists())?;
    let reference = ModelRef::parse(written).ok().filter(|r| r.adapter.is_none())?;
    let mut parts = locate::on_hub(&reference, Path::new("."), &HubCache::from_env());
    parts.pop().map(|part| part.id)
}

/// The path that a user gave, with `~` at its beginning replaced: shells leave it alone in `--flag=~/x` and in quotes.
fn folder(path: &Path) -> PathBuf {
    let rest = path.strip_prefix("~").ok();
    match rest.zip(std::env::home_dir()) {
        Some((rest, home)) => home.join(rest),
        None => path.to_owned(),
    }
}

/// The number of threads: as given, or one a core, at most 8; more do not read faster.
fn threads(given: Option<u16>) -> usize {
    given.map_or_else(|| thread::available_parallelism().map_or(4, usize::from).min(8), usize::from)
}
