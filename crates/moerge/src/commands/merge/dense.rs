//! What `merge` prints of a dense merge.

use moerge_lib::merge::DenseReport;
use serde_json::json;

use super::{Args, print_next, print_step, size_lines, took};
use crate::{
    commands::gguf,
    console,
    numbers::{bytes, count, parameters},
    progress::Reporter,
    terminal::{LABEL, path_text, styled},
};

/// Prints what was built, its warnings, and what to do next.
pub fn print_summary(args: &Args, report: &DenseReport, reporter: &Reporter) -> anyhow::Result<()> {
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
            "merge_method": summary.merge_method, "layers": summary.layers, "tensors": summary.tensors,
            "shards": summary.shards.len(), "parameters": summary.parameters,
        });
        reporter.result(gguf::with_files(event, &report.gguf_files))?;
        return Ok(());
    }
    if args.quiet {
        return Ok(());
    }
    let took = took(report.already_there, report.elapsed);
    let name = path_text(&args.out);
    let mut out = console::results();
    let label = styled(LABEL, &format!("{name:<9}"));
    let (class, method, all) = (&summary.architecture, summary.merge_method, parameters(summary.parameters));
    let layers = summary.layers.map(|layers| format!(", {layers} layers")).unwrap_or_default();
    let bases = summary.models.iter().filter(|model| model.base && model.only_base).count();
    let models = count(summary.models.len() - bases, "model");
    let onto = if bases > 0 { " onto a base" } else { "" };
    out.line(&format!("{label} {class}, {method} of {models}{onto}{layers}: {all} parameters"))?;
    let (tensors, shards) = (count(summary.tensors, "tensor"), count(summary.shards.len(), "shard"));
    let size = bytes(report.bytes);
    let indent = " ".repeat(name.len().max(9));
    for line in size_lines(&report.gguf_files, &size, &tensors, &shards, &took) {
        out.line(&format!("{indent} {line}"))?;
    }
    print_next(args, &report.out, "eval");
    Ok(())
}
