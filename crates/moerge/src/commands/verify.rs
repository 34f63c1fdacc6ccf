use std::{io::Write as _, path::PathBuf, process::ExitCode, sync::Arc};

use moerge_checkpoint::LocalStorage;
use moerge_lib::verify::{Finding, Severity, VerifyReport, verify};

use super::{folder, hub, on_hub, threads};
use crate::{
    COULD_NOT, diagnostics,
    numbers::{bytes, count, duration},
    progress::Reporter,
    sizes,
    terminal::{GOOD, harmless, styled},
};

/// Read every byte of a model folder and say whether it is whole
///
/// Checks headers, the index against the shards, names and shapes against config.json, every value for NaN and
/// infinity, that tokenizer, chat template and generation config can be read, and, where moerge wrote the model, the
/// fingerprint of every tensor against moerge.json.
/// Exits with 1 if anything is broken.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge verify out
  moerge verify --json ~/models/mistral-7b | jq .findings")]
pub struct Args {
    /// A model folder, or one of a PEFT adapter; org/name on the Hub is downloaded
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// Only say what is wrong
    #[arg(short, long)]
    quiet: bool,
    /// Threads that read [default: one a core, at most 8]
    #[arg(short = 'j', long, value_name = "N", value_parser = sizes::threads)]
    num_threads: Option<u16>,
}

/// Checks the folder and prints what it found.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let started = std::time::Instant::now();
    let reporter = Reporter::new(false, args.quiet || args.json, false);
    let dir = match on_hub(&args.dir) {
        Some(id) => hub(&reporter)?.bring_any(&id, &reporter)?,
        None => folder(&args.dir),
    };
    let storage: Arc<dyn moerge_checkpoint::Storage> = Arc::new(LocalStorage);
    let report = verify(&storage, &dir, threads(args.num_threads), &reporter);
    reporter.close();
    let report = report?;
    let mut out = anstream::stdout();
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
            writeln!(
                out,
                "{} {}: {}, in {}",
                styled(GOOD, "sound"),
                harmless(&args.dir.display().to_string()),
                what.join(", "),
                duration(started.elapsed())
            )?;
            writeln!(out, "  {}", checked(&report))?;
        }
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(COULD_NOT) })
}

/// What was compared with what.
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

/// The findings on stderr: all of a few, the first of many.
fn findings(report: &VerifyReport) {
    const SHOWN: usize = 5;
    let mut rest = report.findings.as_slice();
    while let Some(first) = rest.first() {
        let alike = rest.iter().take_while(|f| (f.severity, f.kind) == (first.severity, first.kind)).count();
        let (these, later) = rest.split_at(alike);
        for (i, finding) in these.iter().take(SHOWN).enumerate() {
            // Advice that is the same for all of a sort stands under the last.
            let last = i + 1 == these.len().min(SHOWN);
            let next = these.get(i + 1).filter(|_| !last);
            print(finding, next.is_none_or(|n| n.hint != finding.hint));
        }
        if alike > SHOWN {
            anstream::eprintln!("  and {} more like this (all of them: --json)", alike - SHOWN);
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
