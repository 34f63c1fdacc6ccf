//! `moerge man`: the manual pages, made from the same definitions as the help.

use std::{fs, io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::CommandFactory;
use clap_mangen::Man;

use crate::{commands::command_line::Cli, console, terminal::path_text};

/// Print the manual page
///
/// Without --out, prints one page about the whole program. With --out, writes a page for the program and one for each
/// command into a folder.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge man | man -l -
  moerge man --out ~/.local/share/man/man1")]
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
        console::results().write_all(&whole(command)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let commands = command.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect::<Vec<_>>();
    for command in std::iter::once(command).chain(commands) {
        let man = Man::new(command.disable_help_subcommand(true));
        let path = dir.join(man.get_filename());
        let mut page = Vec::new();
        man.render(&mut page)?;
        fs::write(&path, with_sections(&page)).with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(console::results(), "{}", path_text(&path))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The page with the sections that the text after the options is made of (`Examples:` and so on) under their own
/// headings; clap_mangen puts all of it under EXTRA.
fn with_sections(page: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(page);
    let Some((before, extra)) = text.split_once(".SH EXTRA\n") else { return page.to_vec() };
    let mut out = before.to_owned();
    for line in extra.lines() {
        match line.strip_suffix(':').filter(|title| ["Examples", "Exit codes", "Environment"].contains(title)) {
            Some("Exit codes") => out.push_str(".SH \"EXIT STATUS\"\n.nf\n"),
            Some(title) => out.push_str(&format!(".SH {}\n.nf\n", title.to_uppercase())),
            // The end of the extra text.
            None if line.starts_with(".SH") => out.push_str(&format!(".fi\n{line}\n")),
            None => out.push_str(&format!("{line}\n")),
        }
    }
    out.into_bytes()
}

/// One page: the program's own, then synopsis, description, options and examples of each command.
fn whole(command: clap::Command) -> anyhow::Result<Vec<u8>> {
    let commands: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    page = with_sections(&page);
    for command in commands {
        let man = Man::new(command);
        writeln!(page, ".SH {}", man.get_filename().trim_end_matches(".1").to_uppercase().replace('-', " "))?;
        let mut part = Vec::new();
        man.render_synopsis_section(&mut part)?;
        man.render_description_section(&mut part)?;
        man.render_options_section(&mut part)?;
        man.render_extra_section(&mut part)?;
        // Sections of a command become subsections of the page.
        page.extend(String::from_utf8_lossy(&with_sections(&part)).replace(".SH ", ".SS ").into_bytes());
    }
    Ok(page)
}
