//! The command line as a whole. What each command takes stands in its own file under `commands/`.

use std::{ffi::OsString, path::Path};

use clap::{
    CommandFactory as _, Parser, Subcommand,
    builder::styling::{AnsiColor, Style, Styles},
    error::ErrorKind,
};

use crate::commands::{chat, completions, eval, generate, inspect, man, merge, plan, pull, push, route, serve, verify};

/// Turn language models into a Mixture of Experts
///
/// moerge reads a recipe (a mergekit-moe YAML works unchanged), takes the tensors of several models that share an
/// architecture, and writes one Mixture-of-Experts checkpoint that transformers, vLLM and llama.cpp load.
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
  moerge plan recipe.yml             what would be made, and what it takes
  moerge merge recipe.yml out        make it
  moerge pull org/name               download a model
  moerge push out you/name           upload one
  moerge verify out                  read every byte of it again
  moerge inspect out                 what is in a model folder
  moerge chat out                    talk to it
  moerge eval base out --text *.txt  how good it is
  moerge route out                   which expert gets which token
  moerge serve out                   a web page to talk to it, and OpenAI's API

Exit codes:
  0  done
  1  could not: something is wrong with the input or the machine, or it was stopped
  2  wrong usage

Environment:
  HF_HOME, HF_HUB_CACHE   where models like `org/name` are kept
  HF_TOKEN                who asks the Hub; `hf auth login` does as well
  HF_HUB_OFFLINE=1        ask nothing over the network
  MOERGE_API_KEY          the key that requests to `moerge serve` need
  NO_COLOR                no colours";

const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(Style::new())
    .error(AnsiColor::Red.on_default().bold())
    .valid(AnsiColor::Green.on_default())
    .invalid(AnsiColor::Yellow.on_default());

/// One command, with what it was given.
#[derive(Debug, Subcommand)]
pub enum Command {
    Merge(Box<merge::Args>),
    Plan(plan::Args),
    Pull(pull::Args),
    Push(push::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Chat(chat::Args),
    Generate(generate::Args),
    Eval(eval::Args),
    Route(route::Args),
    Serve(serve::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Parses this process's command line; ends the process on `--help` and on wrong usage.
pub fn parse() -> Command {
    Cli::parse_from(with_old_name(std::env::args_os().collect())).command
}

/// Ends the process as clap does on wrong usage of the command `name`.
pub fn wrong_usage(name: &str, message: &str) -> ! {
    let mut cli = Cli::command();
    cli.build();
    let command = cli.find_subcommand_mut(name).map(std::mem::take).unwrap_or_default();
    command.bin_name(format!("moerge {name}")).error(ErrorKind::ValueValidation, message).exit()
}

/// A link called `mergekit-moe` to this program takes mergekit's command line: `mergekit-moe RECIPE OUT [flags]`.
fn with_old_name(mut args: Vec<OsString>) -> Vec<OsString> {
    let name = args.first().map(Path::new).and_then(Path::file_stem);
    if name.is_some_and(|stem| stem == "mergekit-moe") {
        args.insert(1, "merge".into());
    }
    // As many programs have it; a command of its own would be one more in every list.
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
    fn a_link_called_mergekit_moe_merges() {
        let args = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(with_old_name(args("/bin/mergekit-moe a.yml out")), args("/bin/mergekit-moe merge a.yml out"));
        assert_eq!(with_old_name(args("moerge plan a.yml")), args("moerge plan a.yml"));
        assert_eq!(with_old_name(args("moerge help merge")), args("moerge merge --help"));
        assert_eq!(with_old_name(args("moerge help")), args("moerge --help"));
    }
}
