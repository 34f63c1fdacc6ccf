//! `plan` of a model that is exported as GGUF files.

use std::{io::Write as _, path::Path, process::ExitCode};

use moerge_core::Error;
use moerge_lib::export::{ExportOptions, prepare_export};
use serde_json::json;

use super::{Args, free_space, gguf};
use crate::{
    commands::{folder, storages::models},
    console, diagnostics,
    terminal::path_text,
};

/// Prints the plan for the model at `path`.
pub fn run(args: &Args, path: &Path) -> anyhow::Result<ExitCode> {
    let out = folder(&args.out);
    let Some(options) = args.gguf.options_by_name(&out)? else {
        let message = format!("{} is a model and not a recipe", path_text(path));
        let hint = "to plan its export, add the file to write and its type, such as `out.gguf --quant q4_k_m`";
        return Err(Error::input(message).hint(hint).into());
    };
    let budget = args.build.options(false).memory;
    let options = ExportOptions { memory: budget, ..options };
    let prepared = prepare_export(&models(), path, &out, &options)?;
    let planned = &prepared.planned;
    let imatrix = planned.imatrix_memory.map_or(0, |memory| memory.needed);
    let mut results = console::results();
    if args.json {
        let plan = json!({
            "output": { "max_bytes": planned.bytes(), "disk_free": free_space(&out) },
            "memory": { "imatrix": imatrix, "budget": budget },
            "warnings": planned.warnings(),
            "gguf": gguf::json(planned),
        });
        writeln!(results, "{plan:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    results.lines(gguf::lines(planned).into_iter().skip_while(String::is_empty))?;
    planned.warnings().iter().for_each(|warning| diagnostics::warning(warning));
    if let Err(error) = planned.imatrix_within(budget) {
        diagnostics::warning(&diagnostics::as_warning(&error));
    }
    Ok(ExitCode::SUCCESS)
}
