//! `moerge verify`: checks a folder and prints the findings, grouped by kind.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use moerge_lib::verify::{Finding, Severity, VerifyReport, verify};

use super::{folder, hub, on_hub, refuse_adapter_pair, storages::models, threads};
use crate::{
    FAILURE, console, diagnostics,
    numbers::{bytes, count, duration},
    progress::Reporter,
    sizes,
    terminal::{GOOD, path_text, styled},
};

/// Check every byte of a model folder or GGUF file
///
/// Checks headers, the index against the shards, names and shapes against config.json, every value for NaN and
/// infinity, and that tokenizer, chat template and generation config can be read. If moerge wrote the model, also
/// checks the fingerprint of every tensor against moerge.json. The exit code is 1 if anything is broken.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge verify out
  moerge verify --json ~/models/mistral-7b | jq .findings")]
pub struct Args {
    /// A folder with a model or a PEFT adapter, a GGUF file, or org/name on the Hub (downloaded if needed)
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
    /// Print only warnings and errors
    #[arg(short, long)]
    quiet: bool,
    /// Number of threads [default: one per core, at most 8]
    #[arg(short = 'j', long, value_name = "N", value_parser = sizes::threads)]
    num_threads: Option<u16>,
}

/// Checks the folder and prints the findings.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let started = std::time::Instant::now();
    let reporter = Reporter::new(false, args.quiet || args.json, false);
    refuse_adapter_pair(&args.dir, "verify the model and the adapter one after the other")?;
    let dir = match on_hub(&args.dir) {
        Some(id) => hub(&reporter)?.ensure_repository_downloaded(&id, &reporter)?,
        None => folder(&args.dir),
    };
    let storage = models();
    let report = verify(&storage, &dir, threads(args.num_threads), &reporter);
    reporter.close();
    let report = report?;
    let mut out = console::results();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        findings(&report);
        if report.is_sound() && !args.quiet {
            let what = [
                Some(bytes(report.bytes)),
                Some(count(report.tensors, "tensor")),
                Some(count(report.files, "file")),
                report.family.clone(),
            ];
            let what: Vec<String> = what.into_iter().flatten().collect();
            let (name, what, took) = (path_text(&args.dir), what.join(", "), duration(started.elapsed()));
            out.line(&format!("{} {name}: {what}, in {took}", styled(GOOD, "sound")))?;
            out.line(&format!("  {}", checked(&report)))?;
        }
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
}

/// A summary of the checks.
fn checked(report: &VerifyReport) -> String {
    let mut checked = vec!["headers", "values"];
    let small_files = report.small_files.iter().map(String::as_str);
    if report.family.is_some() {
        checked.push("shapes");
    }
    checked.extend(small_files);
    let fingerprints = match report.fingerprints_equal {
        Some(equal) => format!("; {} equal to moerge.json", count(equal, "fingerprint")),
        None => String::new(),
    };
    format!("checked {}{fingerprints}", checked.join(", "))
}

/// Prints the findings to stderr: all of them if few, else the first of each kind.
fn findings(report: &VerifyReport) {
    const SHOWN: usize = 5;
    let mut rest = report.findings.as_slice();
    while let Some(first) = rest.first() {
        let alike = rest.iter().take_while(|f| (f.severity, f.kind) == (first.severity, first.kind)).count();
        let (these, later) = rest.split_at(alike);
        for (i, finding) in these.iter().take(SHOWN).enumerate() {
            // A hint that several findings share is printed once, under the last of them.
            let last = i + 1 == these.len().min(SHOWN);
            let next = these.get(i + 1).filter(|_| !last);
            print(finding, next.is_none_or(|n| n.hint != finding.hint));
        }
        if alike > SHOWN {
            console::status(&format!("  and {} more like this (use --json to see all)", alike - SHOWN));
        }
        rest = later;
    }
}

fn print(finding: &Finding, with_hint: bool) {
    let hint = finding.hint.as_ref().filter(|_| with_hint);
    match finding.severity {
        Severity::Error => {
            let error = moerge_core::Error::input(&finding.message);
            diagnostics::error(&hint.iter().fold(error, |e, h| e.hint(h.as_str())));
        }
        Severity::Warning => {
            let hint = hint.map(|h| format!("\nhint: {h}")).unwrap_or_default();
            diagnostics::warning(&format!("{}{hint}", finding.message));
        }
    }
}
