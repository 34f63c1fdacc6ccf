//! The `moerge` command: arguments in, one function of the library called, its outcome told.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 could not, 2 wrong usage.

mod args;
mod commands;
mod diagnostics;
mod interrupt;
mod mergekit_flags;
mod numbers;
mod progress;
mod sizes;
mod terminal;

use std::{io, process::ExitCode};

/// The work was done.
const DONE: u8 = 0;
/// It could not be done: something is wrong with the input or the machine, or the user stopped it.
const COULD_NOT: u8 = 1;

fn main() -> ExitCode {
    let command = args::parse();
    interrupt::install();
    match commands::run(command) {
        Ok(outcome) => outcome,
        Err(error) => told(&error),
    }
}

/// Tells the user what went wrong; gives the exit code.
fn told(error: &anyhow::Error) -> ExitCode {
    // The reader of a pipe went away (`moerge inspect out | head`): nobody is left to tell anything.
    let pipe_closed = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    if error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(pipe_closed) {
        return ExitCode::from(DONE);
    }
    match error.downcast_ref::<moerge_core::Error>() {
        Some(error) => diagnostics::error(error),
        None => diagnostics::error(&moerge_core::Error::input(format!("{error:#}"))),
    }
    ExitCode::from(COULD_NOT)
}
