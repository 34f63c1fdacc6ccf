//! `moerge extract-lora`: writes the difference of two models as an adapter, and prints what it keeps.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use moerge_checkpoint::{Dtype, OutputStorage};
use moerge_core::ErrorKind;
use moerge_lib::extract_lora::{ExtractOptions, ExtractReport, MatrixReport, Truncation, extract_lora};
use serde_json::json;

use super::{
    dtypes, folder, hub,
    naming::open_named,
    refuse_adapter_pair,
    storages::{memory_of, shared},
    threads,
};
use crate::{
    console, interrupt,
    numbers::{bytes, count, duration, memory},
    progress::Reporter,
    sizes,
    terminal::{DIM, HINT, LABEL, one_line, path_text, quoted, styled, table},
};

/// Make a LoRA adapter from the difference of two dense models
///
/// Decomposes the difference of every linear layer of attention and FFN (SVD) and keeps the largest singular values, as
/// a PEFT adapter of BASE; --embeddings adds embeddings and head. Norms and biases cannot be in it; how much they differ
/// is reported. If a run is interrupted, rerun the command to resume.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge extract-lora fine-tune --base base my-lora --rank 64
  moerge extract-lora fine-tune --base base my-lora --energy 0.9    as many ranks as each matrix needs
  moerge chat base+my-lora                                          try it
  moerge diff fine-tune base+my-lora                                see what is lost")]
pub struct Args {
    /// The fine-tuned model: a folder, a GGUF file, or org/name on the Hub, optionally with +adapter
    #[arg(value_name = "MODEL")]
    model: String,
    /// The model that the adapter is for
    #[arg(long, value_name = "BASE")]
    base: String,
    /// The folder of the adapter, which must not exist
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Singular values to keep per matrix
    #[arg(long, value_name = "R", default_value_t = 32, value_parser = rank)]
    rank: usize,
    /// Keep this fraction of each difference's energy instead, between 0 and 1
    #[arg(long, value_name = "FRACTION", value_parser = energy, conflicts_with = "rank")]
    energy: Option<f64>,
    /// The largest rank, with --energy
    #[arg(long, value_name = "R", default_value_t = 256, value_parser = rank, requires = "energy")]
    max_rank: usize,
    /// Adapt embeddings and head, too
    #[arg(long)]
    embeddings: bool,
    /// Type of the adapter's weights
    #[arg(long, value_name = "DTYPE", default_value = "float32", value_parser = dtypes())]
    dtype: Dtype,
    /// Memory budget; uses fewer threads if it is small [default: 2GiB, or what one matrix needs]
    #[arg(long, value_name = "SIZE", value_parser = sizes::memory)]
    memory: Option<u64>,
    /// Number of threads [default: one per core, at most 8]
    #[arg(short = 'j', long, value_name = "N", value_parser = sizes::threads)]
    num_threads: Option<u16>,
    /// Print JSON events, one per line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print only warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

/// Writes the adapter and prints a summary.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(args.json, args.quiet, false);
    let done = extract(args, &reporter);
    reporter.close();
    match done {
        Ok(report) => {
            print_summary(args, &report, &reporter)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            reporter.failed(&error);
            if error.kind() == ErrorKind::Interrupted {
                let out = path_text(&args.out);
                console::status(&format!("stopped: {out} is not complete; finished work is kept"));
                console::status(&format!("{} rerun the command to resume", styled(HINT, "next:")));
                return Ok(ExitCode::from(interrupt::INTERRUPTED));
            }
            Err(error.into())
        }
    }
}

fn extract(args: &Args, reporter: &Reporter) -> moerge_core::Result<ExtractReport> {
    refuse_adapter_pair(
        &PathBuf::from(&args.base),
        "merge the base's adapter first: PEFT loads one onto a plain model",
    )?;
    let hub = hub(reporter)?;
    let (model, base) = (open_named(&args.model, &hub, reporter)?, open_named(&args.base, &hub, reporter)?);
    let truncation = match args.energy {
        Some(share) => Truncation::Energy { share, max_rank: args.max_rank },
        None => Truncation::Rank(args.rank),
    };
    let options = ExtractOptions {
        truncation,
        embeddings: args.embeddings,
        dtype: args.dtype,
        threads: threads(args.num_threads),
        memory: args.memory,
        storages: memory_of([args.model.as_str(), &args.base], &args.out),
    };
    let storage: Arc<dyn OutputStorage> = shared();
    extract_lora(&storage, &model, &base, &folder(&args.out), &options, reporter)
}

fn print_summary(args: &Args, report: &ExtractReport, reporter: &Reporter) -> anyhow::Result<()> {
    for warning in warnings(args, report) {
        reporter.warning(&warning);
    }
    if args.json {
        reporter.result(json!(report))?;
        return Ok(());
    }
    if args.quiet {
        return Ok(());
    }
    let mut out = console::results();
    let name = path_text(&args.out);
    let ranks: Vec<usize> = report.matrices.iter().map(|m| m.rank).collect();
    let (least, most) = (ranks.iter().min().unwrap_or(&0), ranks.iter().max().unwrap_or(&0));
    let rank = if least == most { format!("rank {most}") } else { format!("ranks {least} to {most}") };
    let matrices = report.matrices.len();
    let matrices = format!("{matrices} {}", if matrices == 1 { "matrix" } else { "matrices" });
    let label = styled(LABEL, &format!("{name:<9}"));
    out.line(&format!("{label} LoRA adapter, {matrices}, {rank}, {} of the energy kept", share(report.energy)))?;
    let took = duration(std::time::Duration::from_secs_f64(report.seconds));
    let width = name.len().max(9);
    out.line(&format!("{:width$} {}, about {} of memory, in {took}", "", bytes(report.bytes), memory(report.memory)))?;
    if report.equal > 0 {
        out.line(&format!("{:width$} left out, because both models have the same: {}", "", report.equal))?;
    }
    out.line("")?;
    out.lines(table(&rows(&report.matrices), &[1, 2, 3, 4]))?;
    let (base, adapter) = (quoted(std::path::Path::new(&args.base)), quoted(&args.out));
    console::status(&format!("{} moerge chat {base}+{adapter}", styled(HINT, "next:")));
    Ok(())
}

/// Matrices that are listed: those that lose most.
const SHOWN: usize = 10;

fn rows(matrices: &[MatrixReport]) -> Vec<Vec<String>> {
    let head = ["least energy kept", "rank", "energy", "difference", "remaining"];
    let mut rows = vec![head.map(|text| styled(DIM, text)).to_vec()];
    let mut sorted: Vec<&MatrixReport> = matrices.iter().collect();
    sorted.sort_by(|a, b| a.energy.total_cmp(&b.energy));
    let percent = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{:.3} %", 100.0 * x));
    rows.extend(sorted.iter().take(SHOWN).map(|m| {
        let (rank, energy) = (m.rank.to_string(), share(m.energy));
        vec![one_line(&m.module), rank, energy, percent(m.relative), percent(m.remaining)]
    }));
    if sorted.len() > SHOWN {
        rows.push(vec![styled(DIM, &format!("and {} more (--json shows all)", sorted.len() - SHOWN))]);
    }
    rows
}

fn warnings(args: &Args, report: &ExtractReport) -> Vec<String> {
    let mut warnings = Vec::new();
    if !report.left_out.is_empty() {
        let one = |of: &moerge_lib::extract_lora::LeftOut| {
            let apart = match of.distance.as_ref().map(|d| d.relative) {
                Some(Some(relative)) => format!("{:.3} % apart", 100.0 * relative),
                Some(None) => "changed from zero".to_owned(),
                None => "of other shapes or in one model only".to_owned(),
            };
            format!("{} ({}, {apart})", one_line(&of.module), count(of.tensors, "tensor"))
        };
        let parts: Vec<String> = report.left_out.iter().map(one).collect();
        let mut warning =
            format!("the models also differ in weights that the adapter does not cover: {}", parts.join(", "));
        if !args.embeddings && report.left_out.iter().any(|part| ["embeddings", "head"].contains(&part.module.as_str()))
        {
            warning.push_str("\nhint: --embeddings adapts embeddings and head");
        }
        warnings.push(warning);
    }
    if report.tied_embeddings {
        warnings.push(
            "the head is tied to the embeddings: PEFT changes both only once the adapter is merged (`merge_and_unload`); \
             moerge always does"
                .to_owned(),
        );
    }
    if let Some(wanted) = args.energy {
        let short = report.matrices.iter().filter(|m| m.energy < wanted - 1e-6).count();
        if short > 0 {
            warnings.push(format!(
                "{short} of {} matrices keep less than {} of their energy\nhint: --max-rank {} and more would keep it",
                report.matrices.len(),
                share(wanted),
                2 * args.max_rank
            ));
        }
    }
    warnings
}

/// A fraction, never rounded up to all of it.
fn share(fraction: f64) -> String {
    let percent = 100.0 * fraction;
    if percent > 99.99 && fraction < 1.0 - 1e-9 { "> 99.99 %".to_owned() } else { format!("{percent:.2} %") }
}

fn rank(text: &str) -> Result<usize, String> {
    let expected = || "expected a rank from 1 to 65536".to_owned();
    text.parse().ok().filter(|rank| (1..=65536).contains(rank)).ok_or_else(expected)
}

fn energy(text: &str) -> Result<f64, String> {
    let expected = || "expected a number above 0 and below 1".to_owned();
    text.parse().ok().filter(|share: &f64| *share > 0.0 && *share < 1.0).ok_or_else(expected)
}
