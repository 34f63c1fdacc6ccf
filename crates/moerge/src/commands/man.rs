use std::{fs, io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::CommandFactory;
use clap_mangen::Man;

use crate::args::Cli;

/// Print the manual page
///
/// Without --out, one page about the whole program goes to stdout: `moerge man | man -l -`. With --out, a page for
/// the program and one for each command are written there.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write moerge.1, moerge-merge.1, ... into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints or writes the pages.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut command = Cli::command().flatten_help(args.out.is_none());
    command.build();
    let Some(dir) = &args.out else {
        std::io::stdout().write_all(&whole(command)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let commands = command.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect::<Vec<_>>();
    for command in std::iter::once(command).chain(commands) {
        let man = Man::new(command.disable_help_subcommand(true));
        let path = dir.join(man.get_filename());
        let mut page = Vec::new();
        man.render(&mut page)?;
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        println_path(&path)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn println_path(path: &std::path::Path) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{}", path.display())
}

/// One page: the program's own, then each command's synopsis, description and options.
fn whole(command: clap::Command) -> anyhow::Result<Vec<u8>> {
    let commands: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    for command in commands {
        let man = Man::new(command);
        writeln!(page, ".SH {}", man.get_filename().trim_end_matches(".1").to_uppercase().replace('-', " "))?;
        let mut part = Vec::new();
        man.render_synopsis_section(&mut part)?;
        man.render_description_section(&mut part)?;
        man.render_options_section(&mut part)?;
        // Sections of a command become subsections of the page.
        page.extend(String::from_utf8_lossy(&part).replace(".SH ", ".SS ").into_bytes());
    }
    Ok(page)
}
