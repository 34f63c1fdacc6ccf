//! The commands, one per file, and what several of them share.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
};

use clap::{
    Subcommand,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use moerge_checkpoint::Dtype;
use moerge_core::{
    model::locate::{self, HubCache, HubId},
    recipe::ModelRef,
};
use moerge_hub::{Hub, HubSettings};

use crate::{
    console, interrupt,
    progress::Reporter,
    terminal::{HINT, path_text, quoted, styled},
};
use storages::models;

mod build;
pub mod chat;
pub mod command_line;
pub mod completions;
pub mod diff;
pub mod eval;
pub mod export;
pub mod extract_lora;
pub mod generate;
mod gguf;
pub mod inspect;
pub mod man;
pub mod merge;
mod naming;
mod placing;
pub mod plan;
pub mod pull;
pub mod push;
pub mod route;
mod running;
pub mod serve;
mod storages;
pub mod verify;

/// A command and its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    Merge(Box<merge::Args>),
    Plan(plan::Args),
    Pull(pull::Args),
    Push(push::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Diff(diff::Args),
    Export(export::Args),
    ExtractLora(extract_lora::Args),
    Chat(chat::Args),
    Generate(generate::Args),
    Eval(eval::Args),
    Route(route::Args),
    Serve(serve::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// Whether it prints its result as one JSON document. Commands that print events print their errors themselves.
    pub fn prints_json_document(&self) -> bool {
        match self {
            Self::Plan(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::Verify(args) => args.json,
            Self::Diff(args) => args.json,
            Self::Eval(args) => args.json,
            Self::Route(args) => args.json,
            _ => false,
        }
    }
}

/// Runs a command.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Merge(args) => merge::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Export(args) => export::run(&args),
        Command::ExtractLora(args) => extract_lora::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Route(args) => route::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// The Hub as the environment names it. `reporter` shows every wait for it, and Ctrl-C ends a wait.
fn hub(reporter: &Reporter) -> moerge_core::Result<Arc<Hub>> {
    let settings = HubSettings::from_env()?;
    if let Some(why) = &settings.ignored_token {
        reporter.warning(why);
    }
    Ok(Hub::new(settings, Arc::new(interrupt::requested), reporter.notes()))
}

/// The model on the Hub, `org/name[@revision]`, that an argument means if it is not a path.
fn on_hub(path: &Path) -> Option<HubId> {
    let written = path.to_str().filter(|_| !path.exists())?;
    let reference = ModelRef::parse(written).ok().filter(|r| r.adapter.is_none())?;
    let mut parts = locate::on_hub(models().as_ref(), &reference, Path::new("."), &HubCache::from_env());
    parts.pop().map(|part| part.id)
}

/// Writes a page or picture that is viewed in a browser.
fn write_page(path: &Path, content: &str) -> moerge_core::Result<()> {
    let path = folder(path);
    std::fs::write(&path, content).map_err(|e| moerge_core::Error::io("write", &path, &e))
}

/// The next step after [`write_page`].
fn print_open(path: &Path) {
    console::status(&format!("{} open {} in a browser", styled(HINT, "next:"), quoted(path)));
}

/// The two parts of an argument `model+adapter` that is not itself a path.
fn adapter_pair(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let written = path.to_str().filter(|_| !path.exists())?;
    let (model, adapter) =
        written.split_once('+').filter(|(model, adapter)| !model.is_empty() && !adapter.is_empty())?;
    Some((model.into(), adapter.into()))
}

/// An error for `model+adapter` where only a folder makes sense.
fn refuse_adapter_pair(path: &Path, hint: &str) -> moerge_core::Result<()> {
    match adapter_pair(path) {
        Some(_) => Err(moerge_core::Error::input(format!("{} is a model and an adapter", path_text(path))).hint(hint)),
        None => Ok(()),
    }
}

/// A path from the command line with a leading `~` expanded: shells do not expand it in `--flag=~/x` or in quotes. The
/// URL of a local file is its path.
fn folder(path: &Path) -> PathBuf {
    if let Some(local) = path.to_str().and_then(|path| path.strip_prefix("file://")) {
        return local.into();
    }
    let rest = path.strip_prefix("~").ok();
    match rest.zip(std::env::home_dir()) {
        Some((rest, home)) => home.join(rest),
        None => path.to_owned(),
    }
}

/// Lets everything that computes use so many threads; one per core unless given.
fn use_threads(given: Option<usize>) {
    if let Some(threads) = given {
        // Fails if the pool exists already, with a thread per core.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
}

/// Parses `bfloat16`, and mergekit's `torch.bfloat16`.
fn dtypes() -> impl TypedValueParser<Value = Dtype> {
    let values = [("float32", "torch.float32"), ("float16", "torch.float16"), ("bfloat16", "torch.bfloat16")];
    let values = values.map(|(name, of_mergekit)| PossibleValue::new(name).alias(of_mergekit));
    PossibleValuesParser::new(values).map(|name| Dtype::from_torch_name(&name).unwrap_or(Dtype::F32))
}

/// The number of threads that read: as given, or one per core and at most 8, since more do not read faster.
fn threads(given: Option<u16>) -> usize {
    given.map_or_else(|| thread::available_parallelism().map_or(4, usize::from).min(8), usize::from)
}
