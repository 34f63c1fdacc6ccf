//! `moerge merge`: builds the output of a recipe, optionally uploads it, and prints a summary.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use moerge_checkpoint::{OutputStorage, is_object};
use moerge_core::{
    Error, ErrorKind,
    model::{gguf::GgufStorage, locate::HubId},
    progress::Progress as _,
    recipe::Output,
};
use moerge_hub::{Hub, HubStorage, PushOptions, Pushed};
use moerge_lib::{
    export::MadeFile,
    merge::{DenseReport, MergeReport, Step, Unfinished, earlier_models, prepare_dense, prepare_with},
};
use serde_json::json;

use super::{
    build::{BuildArgs, RouterArgs, load_recipe, recipe_dir},
    folder,
    gguf::{self, GgufArgs, is_gguf},
    hub, push,
    storages::{self, models},
    use_threads,
};
use crate::{
    console, interrupt,
    mergekit_flags::MergekitFlags,
    numbers::{bytes, count, duration, parameters},
    progress::Reporter,
    terminal::{HINT, LABEL, path_text, quoted, styled},
};

mod dense;
mod parts;
mod routing;

/// Merge models according to a recipe, into a Mixture of Experts or a dense model
///
/// Accepts the recipes and the command lines of mergekit-moe and mergekit-yaml. The output folder appears only when it
/// is complete. If a run is interrupted, killed or runs out of disk space, rerun the command to resume.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge merge recipe.yml out
  moerge merge recipe.yml out --out-shard-size 1B --memory 4GiB
  moerge merge recipe.yml out.gguf --quant q4_k_m  for LM Studio and llama.cpp, in one pass
  moerge merge recipe.yml out --no-cache           read the models from the Hub without storing them
  moerge merge recipe.yml out --push you/name      and upload the result
  moerge merge recipe.yml out --json               one JSON event per line, for scripts
  moerge merge recipe.yml out --part 2/8           one of eight machines; --finish on one of them afterwards
  moerge merge recipe.yml s3://bucket/out          an object store; also gs://, az://, in recipes")]
pub struct Args {
    /// The recipe, a YAML file, or - for standard input
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// The output folder, s3://bucket/folder, or a GGUF file: a name that ends in .gguf
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Replace OUT if moerge created it
    #[arg(long)]
    force: bool,
    /// Do not download models on the Hub; read only the tensors that are used
    #[arg(long)]
    no_cache: bool,
    /// Upload OUT to the Hub afterwards: user/name
    #[arg(long, value_name = "REPO", value_parser = push::repository)]
    push: Option<HubId>,
    /// Make the new repository private
    #[arg(long, requires = "push")]
    private: bool,
    #[command(flatten)]
    build: BuildArgs,
    #[command(flatten)]
    routers: RouterArgs,
    #[command(flatten)]
    gguf: GgufArgs,
    /// Print JSON events, one per line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print only warnings and errors
    #[arg(short, long, overrides_with = "no_quiet")]
    quiet: bool,
    #[arg(long, overrides_with = "quiet", hide = true)]
    no_quiet: bool,
    /// Print details
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(flatten)]
    mergekit: MergekitFlags,
    // Last, as the heading of its flags holds for all that follow.
    #[command(flatten)]
    step: parts::StepArgs,
}

/// Builds the output and prints a summary.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(args.json, args.quiet, args.verbose > 0);
    for note in &args.mergekit.notes {
        reporter.note(note);
    }
    let done = build_and_push(args, &reporter);
    reporter.close();
    match done {
        Ok((report, pushed)) => {
            match &report {
                Report::Moe(report) => print_summary(args, report, &reporter)?,
                Report::Dense(report) => dense::print_summary(args, report, &reporter)?,
            }
            if let Some(pushed) = pushed {
                push::print_summary(&pushed, &reporter, args.json, args.quiet)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            reporter.failed(&error);
            if error.kind() == ErrorKind::Interrupted || reporter.stop_requested() {
                print_how_to_resume(args);
                return Ok(ExitCode::from(interrupt::INTERRUPTED));
            }
            Err(error.into())
        }
    }
}

/// The result of either kind of recipe.
enum Report {
    Moe(Box<MergeReport>),
    Dense(Box<DenseReport>),
}

/// Builds the output and uploads it if asked to. Permission to upload is checked first.
fn build_and_push(args: &Args, reporter: &Reporter) -> moerge_core::Result<(Report, Option<Pushed>)> {
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

fn build(args: &Args, hub: Arc<Hub>, reporter: &Reporter) -> moerge_core::Result<Report> {
    let path = folder(&args.recipe);
    let mut options = args.routers.options(args.build.options(args.force));
    options.step = args.step.step();
    use_threads(options.threads);
    let recipe = load_recipe(&path)?;
    let out = folder(&args.out);
    options.storages = storages::memory(&recipe, &out);
    let mut storage = models();
    let mut mounted = None;
    if args.no_cache {
        let remote = HubStorage::new(hub, storages::shared());
        options.cache = remote.mount_models(&recipe, recipe_dir(&path))?;
        storage = GgufStorage::over(remote.clone());
        // Every row would be a request to the Hub.
        options.measure_shared = false;
        mounted = Some(remote);
    } else {
        hub.ensure_recipe_downloaded(&recipe, recipe_dir(&path), reporter)?;
    }
    let expect = |checkpoint| mounted.iter().for_each(|remote: &Arc<HubStorage>| remote.expect(checkpoint));
    let gguf = args.gguf.options_by_name(&out)?;
    if gguf.is_some() && args.push.is_some() {
        return Err(Error::input("--push uploads a folder, and the output is a single file"));
    }
    if is_object(&out) && args.push.is_some() {
        return Err(Error::input("--push uploads a local folder").hint("merge to a local folder, or push it later"));
    }
    if gguf.is_some() && options.step != Step::Whole {
        return Err(Error::input("only folders are written in parts")
            .hint("merge to a folder, then `moerge export` makes a GGUF file of it"));
    }
    let to: Arc<dyn OutputStorage> = storages::shared();
    let made = earlier_models(&storage, &recipe.earlier, recipe_dir(&path), &options)?;
    Ok(match recipe.output {
        Output::Moe(recipe) => {
            args.build.note_unneeded(reporter);
            let prepared = prepare_with(&storage, *recipe, &made, recipe_dir(&path), &options)?;
            prepared.models.sources.iter().flat_map(|s| s.checkpoints()).for_each(expect);
            let from = storage.as_ref();
            Report::Moe(Box::new(match &gguf {
                Some(export) => prepared.build_gguf(from, &to, &out, export, &options, reporter)?,
                None => prepared.build(from, &to, &out, &options, reporter)?,
            }))
        }
        Output::Dense(recipe) => {
            let prepared = prepare_dense(&storage, *recipe, &made, recipe_dir(&path), &options)?;
            prepared.models.0.iter().flat_map(|m| m.files()).flat_map(|f| f.checkpoints()).for_each(expect);
            if gguf.is_none() {
                // Before the work rather than after it.
                prepared.warnings().iter().for_each(|warning| reporter.warning(warning));
            }
            let from = storage.as_ref();
            Report::Dense(Box::new(match &gguf {
                Some(export) => prepared.build_gguf(from, &to, &out, export, &options, reporter)?,
                None => prepared.build(from, &to, &out, &options, reporter)?,
            }))
        }
    })
}

/// Prints what was built, its warnings, and what to do next.
fn print_summary(args: &Args, report: &MergeReport, reporter: &Reporter) -> anyhow::Result<()> {
    for warning in &report.warnings {
        reporter.warning(warning);
    }
    if let Some(unfinished) = &report.unfinished {
        return print_step(args, unfinished, report.elapsed, reporter);
    }
    let summary = &report.summary;
    if args.json {
        let event = json!({
            "out": report.out, "bytes": report.bytes, "seconds": report.elapsed.as_secs_f64(),
            "already_there": report.already_there, "architecture": summary.architecture,
            "tensors": summary.tensors, "shards": summary.shards.len(), "parameters": summary.parameters,
            "active_parameters": summary.active_parameters, "routing": report.routing,
        });
        reporter.result(gguf::with_files(event, &report.gguf_files))?;
        return Ok(());
    }
    if args.quiet {
        return Ok(());
    }
    let took = took(report.already_there, report.elapsed);
    let (experts, per_token) = (summary.experts, summary.experts_per_token);
    let (all, active) = (parameters(summary.parameters), parameters(summary.active_parameters));
    let (tensors, shards) = (count(summary.tensors, "tensor"), count(summary.shards.len(), "shard"));
    let name = path_text(&args.out);
    let mut out = console::results();
    let label = styled(LABEL, &format!("{name:<9}"));
    let class = &summary.architecture;
    out.line(&format!("{label} {class}, {experts} experts, {per_token} per token: {all} parameters, {active} active"))?;
    let size = bytes(report.bytes);
    let indent = " ".repeat(name.len().max(9));
    for line in size_lines(&report.gguf_files, &size, &tensors, &shards, &took) {
        out.line(&format!("{indent} {line}"))?;
    }
    for (number, line) in report.routing.iter().flat_map(routing::lines).enumerate() {
        let label = if number == 0 { styled(LABEL, "routers  ") } else { " ".repeat(9) };
        out.line(&format!("{label} {line}"))?;
    }
    print_next(args, &report.out, "route");
    Ok(())
}

/// Prints what a step of several machines did.
fn print_step(args: &Args, unfinished: &Unfinished, elapsed: Duration, reporter: &Reporter) -> anyhow::Result<()> {
    if args.json {
        reporter.result(parts::event(&args.out, unfinished, elapsed.as_secs_f64()))?;
    } else if !args.quiet {
        parts::print_summary(args, unfinished, &took(false, elapsed))?;
    }
    Ok(())
}

/// What was made: its size and parts, or the GGUF files one by one.
fn size_lines(files: &[MadeFile], size: &str, tensors: &str, shards: &str, took: &str) -> Vec<String> {
    let mut lines = gguf_lines(files);
    lines.push(match lines.is_empty() {
        true => format!("{size}, {tensors}, {shards}, {took}"),
        false => format!("{tensors}, {took}"),
    });
    lines
}

/// The names and sizes of several GGUF files, or of one that is not called as was asked.
fn gguf_lines(files: &[MadeFile]) -> Vec<String> {
    files.iter().map(|file| format!("{}: {}", path_text(&file.path), gguf::size(file))).collect()
}

/// How long a build took, or why it took no time.
fn took(already_there: bool, elapsed: Duration) -> String {
    match already_there {
        true => "already built from this recipe and these models".to_owned(),
        false => format!("in {}", duration(elapsed)),
    }
}

/// What to do with the output; `look` is the command that shows what it does.
fn print_next(args: &Args, made: &Path, look: &str) {
    let (out, name) = (quoted(&args.out), path_text(&args.out));
    if is_gguf(&args.out) {
        let out = quoted(made);
        let next = styled(HINT, "next:");
        console::status(&format!("{next} llama-server -m {out} · or open it in LM Studio"));
        return;
    }
    if is_object(&args.out) {
        console::status(&format!("{} moerge verify {out} · moerge chat {out}", styled(HINT, "next:")));
        return;
    }
    let (next, load) = (styled(HINT, "next:"), styled(HINT, "load:"));
    console::status(&format!("{next} moerge chat {out} · moerge {look} {out} · moerge push {out} you/name"));
    console::status(&format!("{load} AutoModelForCausalLM.from_pretrained({name:?}) · vllm serve {out}"));
}

/// After Ctrl-C.
fn print_how_to_resume(args: &Args) {
    let (out, kept) = (path_text(&args.out), args.gguf.kept(&args.out));
    console::status(&format!("stopped: {out} is not complete; {kept}"));
    console::status(&format!("{} rerun the command to resume: {}", styled(HINT, "next:"), own_command_line()));
}

fn own_command_line() -> String {
    command_line(std::env::args_os())
}

/// A command line as a shell takes it, with all flags: other flags may mean another output, which would start over.
fn command_line(words: impl Iterator<Item = OsString>) -> String {
    words.map(|word| quoted(Path::new(&word))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_resume_keeps_flags_and_quotes() {
        let words = ["moerge", "merge", "my recipe.yml", "out", "--out-shard-size=1B", "--random-seed", "7", ""];
        let line = command_line(words.into_iter().map(OsString::from));
        assert_eq!(line, "moerge merge 'my recipe.yml' out --out-shard-size=1B --random-seed 7 ''");
    }
}
