//! The command line as a whole. The arguments of a command are in its own file under `commands/`.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::{
    CommandFactory as _, Parser,
    builder::styling::{AnsiColor, Style, Styles},
    error::ErrorKind,
};

use super::Command;
use crate::FAILURE;

/// Merge language models, into a Mixture of Experts or a dense model
///
/// moerge reads a recipe (a mergekit-moe or mergekit-yaml YAML works unchanged), streams the tensors of several models
/// that share an architecture, and writes one checkpoint. transformers and vLLM load it, and llama.cpp converts it.
#[derive(Debug, Parser)]
#[command(
    name = "moerge",
    version,
    propagate_version = true,
    styles = STYLES,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Start with:  moerge plan recipe.yml     then:  moerge merge recipe.yml out",
    after_long_help = EXAMPLES
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  moerge plan recipe.yml             show what a recipe would produce
  moerge merge recipe.yml out        build the model
  moerge verify out                  check every byte of it
  moerge inspect out                 show what a model folder contains
  moerge diff base out               show how far two models are apart
  moerge extract-lora m --base b out make an adapter from a difference
  moerge chat out                    chat with it
  moerge eval base out --text *.txt  compare models on text
  moerge route out                   show which expert gets which token
  moerge serve out                   a web page and an OpenAI-compatible API
  moerge pull org/name               download a model
  moerge push out you/name           upload a model

Exit codes:
  0    success
  1    failure: something is wrong with the input or the machine
  2    wrong usage
  130  interrupted (Ctrl-C)

Environment:
  HF_HOME, HF_HUB_CACHE   cache for models like `org/name`
  HF_TOKEN                access token for the Hub (or run `hf auth login`)
  HF_HUB_OFFLINE=1        do not use the network
  MOERGE_API_KEY          key that clients of `moerge serve` must send
  NO_COLOR                disable colours";

const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(Style::new())
    .error(AnsiColor::Red.on_default().bold())
    .valid(AnsiColor::Green.on_default())
    .invalid(AnsiColor::Yellow.on_default());

/// Parses this process's command line. For `--help` and wrong usage, prints what is due and gives the exit code.
pub fn parse() -> Result<Command, ExitCode> {
    match Cli::try_parse_from(in_our_words(std::env::args_os().collect())) {
        Ok(cli) => Ok(cli.command),
        Err(error) => {
            let printed = error.print().and_then(|()| io::stdout().flush());
            let lost = printed.is_err_and(|e| e.kind() != io::ErrorKind::BrokenPipe) && !error.use_stderr();
            Err(if lost { ExitCode::from(FAILURE) } else { ExitCode::from(error.exit_code() as u8) })
        }
    }
}

/// Ends the process as clap does on wrong usage of the command `name`.
pub fn wrong_usage(name: &str, message: &str) -> ! {
    let mut cli = Cli::command();
    cli.build();
    let command = cli.find_subcommand_mut(name).map(std::mem::take).unwrap_or_default();
    command.bin_name(format!("moerge {name}")).error(ErrorKind::ValueValidation, message).exit()
}

/// Under the name `mergekit-moe` or `mergekit-yaml` (a link), this program takes mergekit's command line:
/// `mergekit-moe RECIPE OUT [flags]`. To export a recipe is to merge it.
fn in_our_words(mut args: Vec<OsString>) -> Vec<OsString> {
    let name = args.first().map(Path::new).and_then(Path::file_stem);
    if name.is_some_and(|stem| stem == "mergekit-moe" || stem == "mergekit-yaml") {
        args.insert(1, "merge".into());
    }
    let is_recipe = |arg: &OsString| Path::new(arg).extension().is_some_and(|e| e == "yml" || e == "yaml");
    if args.get(1).is_some_and(|word| word == "export") && args[2..].iter().any(is_recipe) {
        args[1] = "merge".into();
    }
    // `help` is an alias, not a command, so that lists of commands do not show it.
    if args.get(1).is_some_and(|word| word == "help") {
        args.remove(1);
        args.push("--help".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_link_with_the_name_of_mergekit_merges() {
        let args = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(in_our_words(args("/bin/mergekit-moe a.yml out")), args("/bin/mergekit-moe merge a.yml out"));
        assert_eq!(in_our_words(args("mergekit-yaml a.yml out")), args("mergekit-yaml merge a.yml out"));
        assert_eq!(in_our_words(args("moerge plan a.yml")), args("moerge plan a.yml"));
        assert_eq!(in_our_words(args("moerge help merge")), args("moerge merge --help"));
        assert_eq!(in_our_words(args("moerge help")), args("moerge --help"));
    }
}
