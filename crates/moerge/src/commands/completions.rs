//! `moerge completions`: completion scripts for shells, printed by clap.

use std::{io::Write as _, process::ExitCode};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{commands::command_line::Cli, console};

/// Print completions for a shell
///
/// Save the output where your shell looks for it:
///
///   bash:  moerge completions bash > ~/.local/share/bash-completion/completions/moerge
///   zsh:   moerge completions zsh > ~/.zfunc/_moerge
///   fish:  moerge completions fish > ~/.config/fish/completions/moerge.fish
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "moerge", &mut script);
    console::results().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
