//! The `moerge` command: parses arguments, calls the library, and prints the outcome.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.

mod columns;
mod commands;
mod console;
mod diagnostics;
mod hints;
mod interrupt;
mod mergekit_flags;
mod numbers;
mod progress;
mod scheduler;
mod sizes;
mod terminal;
mod wrap;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use moerge_core::ErrorKind;

/// The work is done.
const SUCCESS: u8 = 0;
/// Something is wrong with the input or the machine.
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    let command = match commands::command_line::parse() {
        Ok(command) => command,
        Err(code) => return code,
    };
    let json = command.prints_json_document();
    interrupt::install();
    // What is still in the buffer of stdout may not fit on the disk either.
    let done = commands::run(command).and_then(|code| console::results().flush().map(|()| code).map_err(Into::into));
    done.unwrap_or_else(|error| print_error(&error, json))
}

/// Prints why the command failed, with `json` also as events on stdout, and gives its exit code.
fn print_error(error: &anyhow::Error, json: bool) -> ExitCode {
    // The reader of a pipe went away (`moerge inspect out | head`), which is its right.
    let pipe_closed = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    if error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(pipe_closed) {
        return ExitCode::from(SUCCESS);
    }
    let error = match error.downcast_ref::<moerge_core::Error>() {
        Some(error) if error.kind() == ErrorKind::Interrupted => {
            console::status("stopped");
            return ExitCode::from(interrupt::INTERRUPTED);
        }
        Some(error) => error.clone(),
        None => moerge_core::Error::input(format!("{error:#}")),
    };
    if json {
        progress::print_errors(&error);
    }
    diagnostics::error(&error);
    ExitCode::from(FAILURE)
}
