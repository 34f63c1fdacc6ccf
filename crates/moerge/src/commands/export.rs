//! `moerge export`: writes a model, or what a recipe makes, as GGUF files.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use moerge_checkpoint::OutputStorage;
use moerge_core::{Error, ErrorKind};
use moerge_lib::export::{ExportOptions, ExportReport, PreparedExport, prepare_export};
use serde_json::json;

use super::{
    folder,
    gguf::{self, GgufArgs, is_gguf},
    hub, on_hub, refuse_adapter_pair,
    storages::{memory_of, models, shared},
    use_threads,
};
use crate::{
    console, interrupt,
    numbers::{count, duration},
    progress::Reporter,
    sizes,
    terminal::{HINT, LABEL, path_text, styled},
};

/// Write a model as a GGUF file for llama.cpp, LM Studio and Ollama
///
/// Reads the weights once and writes the file in one pass, with nothing in between. The types are those of llama-quantize.
/// If a run is interrupted, rerun the command to resume.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge export out out.gguf --quant q4_k_m
  moerge export out out.gguf --quant q8_0 --quant q4_k_m    out-q8_0.gguf and out-q4_k_m.gguf
  moerge export out out.gguf --quant q4_k_m --imatrix-text mine.txt
  moerge export recipe.yml out.gguf --quant q4_k_m    the same as `moerge merge`
  moerge export out s3://bucket/out.gguf --quant q4_k_m    an object store; also gs://, az://
  moerge export out out-q6.gguf --quant q6_k --tensor-type 'ffn_down=q8_0'
  moerge export mistralai/Mistral-7B-v0.1 mistral.gguf --quant bf16")]
pub struct Args {
    /// A model folder, a GGUF file, org/name on the Hub (downloaded if needed), or a recipe
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The file to write
    #[arg(value_name = "OUT.gguf")]
    out: PathBuf,
    #[command(flatten)]
    gguf: GgufArgs,
    /// Replace OUT if moerge made it
    #[arg(short, long)]
    force: bool,
    /// Memory budget; uses fewer threads if it is small [default: 2GiB]
    #[arg(long, value_name = "SIZE", value_parser = sizes::memory)]
    memory: Option<u64>,
    /// Number of threads [default: one per core, 4 to 16]
    #[arg(short = 'j', long, value_name = "N", value_parser = sizes::threads)]
    num_threads: Option<u16>,
    /// Print JSON events, one per line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print only warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

/// Writes the file and prints a summary.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(args.json, args.quiet, false);
    let done = export(args, &reporter);
    reporter.close();
    match done {
        Ok((prepared, report)) => {
            print_summary(args, &prepared, &report, &reporter)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            reporter.failed(&error);
            if error.kind() == ErrorKind::Interrupted {
                let (out, kept) = (path_text(&args.out), args.gguf.kept(&args.out));
                console::status(&format!("stopped: {out} is not complete; {kept}"));
                console::status(&format!("{} rerun the command to resume", styled(HINT, "next:")));
                return Ok(ExitCode::from(interrupt::INTERRUPTED));
            }
            Err(error.into())
        }
    }
}

fn export(args: &Args, reporter: &Reporter) -> moerge_core::Result<(PreparedExport, ExportReport)> {
    refuse_adapter_pair(&args.model, "merge the adapter first")?;
    let dir = match on_hub(&args.model) {
        Some(id) => hub(reporter)?.ensure_repository_downloaded(&id, reporter)?,
        None => folder(&args.model),
    };
    if dir.is_file() && !is_gguf(&dir) {
        let message = format!("{} is a file, and not a model folder", path_text(&args.model));
        return Err(Error::input(message).hint("a recipe's name ends in .yml or .yaml"));
    }
    if !is_gguf(&args.out) {
        let message = format!("{} is not the name of a GGUF file", path_text(&args.out));
        return Err(Error::input(message).hint("end the output's name in .gguf"));
    }
    let reading = models();
    let writing: Arc<dyn OutputStorage> = shared();
    let out = folder(&args.out);
    let options = ExportOptions {
        force: args.force,
        threads: args.num_threads.map(usize::from),
        memory: args.memory,
        storages: memory_of(args.model.to_str(), &out),
        ..args.gguf.options(&out)?
    };
    use_threads(options.threads);
    let prepared = prepare_export(&reading, &dir, &out, &options)?;
    let report = prepared.write(reading.as_ref(), &writing, &options, reporter)?;
    Ok((prepared, report))
}

fn print_summary(
    args: &Args,
    prepared: &PreparedExport,
    report: &ExportReport,
    reporter: &Reporter,
) -> anyhow::Result<()> {
    for warning in &report.warnings {
        reporter.warning(warning);
    }
    let Some(plan) = prepared.planned.files.first().map(|file| &file.plan) else { return Ok(()) };
    if args.json {
        let event = json!({
            "out": report.files.first().map(|file| &file.path), "bytes": prepared.planned.bytes(),
            "seconds": report.elapsed.as_secs_f64(),
            "already_there": report.files.iter().all(|file| file.already_there),
            "architecture": plan.architecture.name(), "quant": plan.file_type.name(),
            "tensors": plan.output.tensors.len(),
        });
        reporter.result(gguf::with_files(event, &report.files))?;
        return Ok(());
    }
    if args.quiet {
        return Ok(());
    }
    let mut out = console::results();
    for file in &report.files {
        let took =
            if file.already_there { "already there".to_owned() } else { format!("in {}", duration(report.elapsed)) };
        let tensors = count(plan.output.tensors.len(), "tensor");
        let what = format!("{} in {}", plan.architecture.name(), gguf::size(file));
        out.line(&format!("{} {what}, {tensors}, {took}", styled(LABEL, &path_text(&file.path))))?;
    }
    Ok(())
}
