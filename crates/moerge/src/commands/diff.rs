//! `moerge diff`: a table of the differences of two models, and optionally a heat map.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use moerge_lib::diff::{diff, heat_map};

use super::{hub, naming::open_named, print_open, threads, write_page};
use crate::{console, progress::Reporter, sizes};

mod page;

/// Show how far two models are apart, tensor by tensor
///
/// Reads both models in pieces, so memory use does not depend on their size. For each tensor of the same name: the
/// relative difference |A - B| / |A|, the cosine, and the fraction of equal elements. Tensors that only one model has,
/// and other shapes or types, are listed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge diff base fine-tune
  moerge diff base base+my-lora --svg diff.svg    what an adapter changes, as a heat map
  moerge diff base out --json | jq '.modules[] | [.module, .distance.relative]'")]
pub struct Args {
    /// The model to compare with: a folder, a GGUF file, or org/name on the Hub, optionally with +adapter
    #[arg(value_name = "A")]
    a: String,
    /// The model to compare
    #[arg(value_name = "B")]
    b: String,
    /// Write a heat map, modules by layers
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print everything as JSON, with every tensor
    #[arg(long)]
    pub json: bool,
    /// Print only the result
    #[arg(short, long)]
    quiet: bool,
    /// Number of threads [default: one per core, at most 8]
    #[arg(short = 'j', long, value_name = "N", value_parser = sizes::threads)]
    num_threads: Option<u16>,
}

/// Compares the models and prints the differences.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(false, args.quiet || args.json, false);
    let hub = hub(&reporter)?;
    let (a, b) = (open_named(&args.a, &hub, &reporter)?, open_named(&args.b, &hub, &reporter)?);
    let report = diff(&a, &b, threads(args.num_threads), &reporter);
    reporter.close();
    let report = report?;
    if let Some(path) = &args.svg {
        write_page(path, &heat_map(&report))?;
    }
    let mut out = console::results();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    out.lines(page::lines(&report))?;
    if let (Some(path), false) = (&args.svg, args.quiet) {
        print_open(path);
    }
    Ok(ExitCode::SUCCESS)
}
