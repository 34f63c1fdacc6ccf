//! A merge that several machines make: its flags, and what is printed of a step.

use std::path::Path;

use moerge_core::plan::Part;
use moerge_lib::merge::{Step, Unfinished};
use serde_json::{Value, json};

use super::Args;
use crate::{
    console,
    numbers::{bytes, count},
    scheduler,
    terminal::{HINT, LABEL, path_text, styled},
};

/// Which step of the merge this machine does.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("step").multiple(false))]
#[command(next_help_heading = "Many machines (OUT on a shared disk)")]
pub struct StepArgs {
    /// Write only part I of N: 2/8, or auto/8. Without a value, or with `auto`, I and N come from the scheduler
    #[arg(long, value_name = "I/N", num_args = 0..=1, default_missing_value = "auto", value_parser = scheduler::part)]
    #[arg(group = "step", conflicts_with = "push")]
    part: Option<Part>,
    /// Make only the routers, which all parts then use
    #[arg(long, group = "step", conflicts_with = "push")]
    routers_only: bool,
    /// Check that all parts are there, and publish OUT
    #[arg(long, group = "step")]
    finish: bool,
}

impl StepArgs {
    /// The step.
    pub fn step(&self) -> Step {
        match self.part {
            Some(part) => Step::Part(part),
            None if self.routers_only => Step::Routers,
            None if self.finish => Step::Finish,
            None => Step::Whole,
        }
    }
}

/// What was done, as a JSON event.
pub fn event(out: &Path, unfinished: &Unfinished, seconds: f64) -> Value {
    json!({
        "out": out, "seconds": seconds, "part": unfinished.part.map(|part| part.to_string()),
        "shards": unfinished.shards, "bytes": unfinished.bytes, "missing_shards": unfinished.missing,
    })
}

/// Prints what was done and what comes next.
pub fn print_summary(args: &Args, unfinished: &Unfinished, took: &str) -> anyhow::Result<()> {
    let Unfinished { part, shards, bytes: size, missing } = unfinished;
    let mut out = console::results();
    let label = |name: &str| styled(LABEL, &format!("{name:<9}"));
    let next = match (part, missing) {
        (None, _) => "the same command with --part I/N on each machine, then with --finish on one".to_owned(),
        (Some(_), 0) => "the same command with --finish instead of --part".to_owned(),
        (Some(_), missing) => format!("{} left for the other parts", count(*missing, "shard")),
    };
    match part {
        None => out.line(&format!("{} made {took} for {}", label("routers"), path_text(&args.out)))?,
        Some(part) => {
            let (size, shards) = (bytes(*size), count(*shards, "shard"));
            out.line(&format!("{} {size}, {shards}, {took}", label(&format!("part {part}"))))?;
        }
    }
    console::status(&format!("{} {next}", styled(HINT, "next:")));
    Ok(())
}
