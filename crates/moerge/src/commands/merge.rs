use std::{
    ffi::OsString,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use moerge_checkpoint::{LocalStorage, Storage};
use moerge_core::{ErrorKind, model::locate::HubId, progress::Progress as _, recipe::Recipe};
use moerge_hub::{Hub, HubStorage, PushOptions, Pushed};
use moerge_lib::merge::{MergeReport, prepare};
use serde_json::json;

use super::{
    build::{BuildArgs, RouterArgs, recipe_dir},
    folder, hub, push,
};
use crate::{
    COULD_NOT,
    mergekit_flags::MergekitFlags,
    numbers::{bytes, count, duration, parameters},
    progress::Reporter,
    terminal::{HINT, LABEL, harmless, quoted, styled},
};

mod routing;

/// Make a Mixture of Experts from a recipe
///
/// Takes the recipe and the command line of mergekit-moe. The output folder appears only when it is complete: if a
/// run is stopped, killed or runs out of disk, the same command again goes on where it was.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge merge recipe.yml out
  moerge merge recipe.yml out --out-shard-size 1B --memory 4GiB
  moerge merge recipe.yml out --json               one event a line, for scripts")]
pub struct Args {
    /// The recipe, a YAML file
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// The folder to make
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Replace OUT if it exists and moerge made it
    #[arg(long)]
    force: bool,
    /// Keep no copy of models on the Hub: read only the tensors that are used, straight into OUT
    #[arg(long)]
    no_cache: bool,
    /// Upload OUT to the Hub when it is made: user/name
    #[arg(long, value_name = "REPO", value_parser = push::repository)]
    push: Option<HubId>,
    /// Let only the owner see a repository that --push makes
    #[arg(long, requires = "push")]
    private: bool,
    #[command(flatten)]
    build: BuildArgs,
    #[command(flatten)]
    routers: RouterArgs,
    /// Print events as JSON, one a line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Only say what is wrong
    #[arg(short, long, overrides_with = "no_quiet")]
    quiet: bool,
    #[arg(long, overrides_with = "quiet", hide = true)]
    no_quiet: bool,
    /// Tell more
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(flatten)]
    mergekit: MergekitFlags,
}

/// Builds the output and says what it is.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(args.json, args.quiet, args.verbose > 0);
    for note in &args.mergekit.notes {
        reporter.note(&format!("note: {note}"));
    }
    let done = build_and_push(args, &reporter);
    reporter.close();
    match done {
        Ok((report, pushed)) => {
            told(args, &report, &reporter)?;
            if let Some(pushed) = pushed {
                push::told(&pushed, &reporter, args.json, args.quiet)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            reporter.failed(&error);
            if error.kind() == ErrorKind::Interrupted || reporter.stop_requested() {
                stopped(args);
                return Ok(ExitCode::from(COULD_NOT));
            }
            Err(error.into())
        }
    }
}

/// Builds the output and, where that is asked for, uploads it. Whether it may be uploaded is asked first.
fn build_and_push(args: &Args, reporter: &Reporter) -> moerge_core::Result<(MergeReport, Option<Pushed>)> {
    let hub = hub(reporter)?;
    let id = args.push.as_ref();
    if let Some(id) = id {
        hub.check_may_push(id)?;
    }
    let report = build(args, hub.clone(), reporter)?;
    let options = PushOptions { private: args.private, message: push::MESSAGE.to_owned() };
    let pushed = id.map(|id| hub.push(&folder(&args.out), id, &options, reporter)).transpose()?;
    Ok((report, pushed))
}

fn build(args: &Args, hub: Arc<Hub>, reporter: &Reporter) -> moerge_core::Result<MergeReport> {
    let path = folder(&args.recipe);
    let mut options = args.routers.options(args.build.options(args.force));
    if let Some(threads) = options.threads {
        // Fails where the pool is there already, which then has a thread a core.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    let recipe = Recipe::load(&path)?;
    let mut storage: Arc<dyn Storage> = Arc::new(LocalStorage);
    let mut mounted = None;
    if args.no_cache {
        let remote = HubStorage::new(hub);
        options.cache = remote.mount_models(&recipe, recipe_dir(&path))?;
        storage = remote.clone();
        // A row from far away costs a request.
        options.measure_shared = false;
        mounted = Some(remote);
    } else {
        hub.bring_models(&recipe, recipe_dir(&path), reporter)?;
    }
    let prepared = prepare(&storage, recipe, recipe_dir(&path), &options)?;
    if let Some(remote) = &mounted {
        prepared.models.sources.iter().flat_map(|s| s.checkpoints()).for_each(|c| remote.expect(c));
    }
    prepared.build(&storage, &folder(&args.out), &options, reporter)
}

/// What was made, what to know about it, and what to do with it.
fn told(args: &Args, report: &MergeReport, reporter: &Reporter) -> anyhow::Result<()> {
    for warning in &report.warnings {
        reporter.warning(warning);
    }
    let summary = &report.summary;
    if args.json {
        reporter.result(json!({
            "out": report.out, "bytes": report.bytes, "seconds": report.elapsed.as_secs_f64(),
            "already_there": report.already_there, "architecture": summary.architecture,
            "tensors": summary.tensors, "shards": summary.shards.len(), "parameters": summary.parameters,
            "active_parameters": summary.active_parameters, "routing": report.routing,
        }));
        return Ok(());
    }
    if args.quiet {
        return Ok(());
    }
    let took = if report.already_there {
        "there already, of this recipe and these models".to_owned()
    } else {
        format!("in {}", duration(report.elapsed))
    };
    let (experts, per_token) = (summary.experts, summary.experts_per_token);
    let (all, active) = (parameters(summary.parameters), parameters(summary.active_parameters));
    let (tensors, shards) = (count(summary.tensors, "tensor"), count(summary.shards.len(), "shard"));
    let name = harmless(&args.out.display().to_string());
    let mut stdout = anstream::stdout();
    let label = styled(LABEL, &format!("{name:<9}"));
    let class = &summary.architecture;
    writeln!(stdout, "{label} {class}, {experts} experts, {per_token} per token: {all} parameters, {active} active")?;
    writeln!(stdout, "{:width$} {}, {tensors}, {shards}, {took}", "", bytes(report.bytes), width = name.len().max(9))?;
    for (number, line) in report.routing.iter().flat_map(routing::lines).enumerate() {
        let label = if number == 0 { styled(LABEL, "routers  ") } else { " ".repeat(9) };
        writeln!(stdout, "{label} {line}")?;
    }
    let out = quoted(&args.out);
    let next = styled(HINT, "next:");
    anstream::eprintln!("{next} moerge chat {out} · moerge route {out} · moerge push {out} you/name");
    anstream::eprintln!(
        "{} AutoModelForCausalLM.from_pretrained({:?}) · vllm serve {out}",
        styled(HINT, "load:"),
        name
    );
    Ok(())
}

/// The run was stopped: how to go on.
fn stopped(args: &Args) {
    let name = harmless(&args.out.display().to_string());
    anstream::eprintln!("stopped: {name} is not there yet, and what is done is kept");
    anstream::eprintln!(
        "{} the same command goes on where it was: {}",
        styled(HINT, "next:"),
        command_line(std::env::args_os())
    );
}

/// A command line as a shell takes it. Another flag may mean another output, which would start anew.
fn command_line(words: impl Iterator<Item = OsString>) -> String {
    words.map(|word| quoted(Path::new(&word))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_command_has_all_of_its_flags_and_its_quotes() {
        let words = ["moerge", "merge", "my recipe.yml", "out", "--out-shard-size=1B", "--random-seed", "7", ""];
        let line = command_line(words.into_iter().map(OsString::from));
        assert_eq!(line, "moerge merge 'my recipe.yml' out --out-shard-size=1B --random-seed 7 ''");
    }
}
