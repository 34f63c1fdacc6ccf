//! `moerge route`: measures the routing of an MoE, prints tables, and optionally writes an HTML page.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use moerge_core::Error;
use moerge_infer::model::Model;
use moerge_lib::{
    evaluate::Text,
    route::{Extent, RoutedText, balanced_load, expert_names, expert_slots, html, recipe_texts, report},
};

use super::{folder, placing::PlacingArgs, print_open, write_page};
use crate::{console, progress::Reporter, sizes};

mod page;

/// Show where a Mixture of Experts sends tokens
///
/// For each layer: every expert's share of the tokens, load balance, router entropy, similarity of the gates, and how
/// often a text's own expert comes first. Uses the prompts of the model's recipe, or texts that you give.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge route out                                    with the recipe's prompts
  moerge route out --text code=main.py story=tale.txt --html routing.html
  moerge route out --text examples/tiny/valid/*.txt   code.txt belongs to the expert `code`")]
pub struct Args {
    /// A model folder, a GGUF file, or `org/name` on the Hub
    #[arg(value_name = "MODEL")]
    model: String,
    /// Texts instead of the prompts; a text belongs to EXPERT (name or number), or to the expert named like the file
    #[arg(long, value_name = "[EXPERT=]FILE", num_args = 1..)]
    text: Vec<String>,
    /// Write an HTML page with heat maps, and the texts coloured by expert
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Maximum number of tokens per text
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = sizes::tokens)]
    tokens: usize,
    /// Sequence length in tokens; longer texts are split [default: the model's context, at most 2048]
    #[arg(long, value_name = "TOKENS", value_parser = sizes::tokens)]
    context: Option<usize>,
    #[command(flatten)]
    placing: PlacingArgs,
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
    /// Print only the result
    #[arg(short, long)]
    quiet: bool,
}

/// Tokens per text that the HTML page shows.
const SHOWN: usize = 600;

/// Measures the routing and prints it.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(false, args.quiet || args.json, false);
    let model = args.placing.open(std::slice::from_ref(&args.model), &reporter)?.remove(0);
    let names = expert_names(&model, model.storage.as_ref())?;
    let slots = expert_slots(&model, model.storage.as_ref())?;
    let texts = if args.text.is_empty() { prompts(&model)? } else { texts(&args.text, &names)? };
    let sample = if args.html.is_some() || args.json { SHOWN } else { 0 };
    let extent = Extent { context: args.context, tokens: args.tokens, sample };
    let routed = report(&model, (&names, &slots), &texts, extent, args.placing.placement(&model), &reporter);
    reporter.close();
    let mut routed = routed?;
    routed.balance = balanced_load(&model, model.storage.as_ref());
    if let Some(path) = &args.html {
        write_page(path, &html::page(&routed))?;
    }
    let mut out = console::results();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&routed)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    out.lines(page::lines(&routed))?;
    if let (Some(path), false) = (&args.html, args.quiet) {
        print_open(path);
    }
    Ok(ExitCode::SUCCESS)
}

fn prompts(model: &Model) -> Result<Vec<RoutedText>, Error> {
    let texts = recipe_texts(model, model.storage.as_ref())?;
    if texts.is_empty() {
        return Err(Error::input(format!("{} comes without prompts, so texts are needed", model.reference))
            .hint("moerge route MODEL --text FILE..."));
    }
    Ok(texts)
}

fn texts(arguments: &[String], experts: &[String]) -> Result<Vec<RoutedText>, Error> {
    let number = |name: &str| experts.iter().position(|expert| expert == name);
    let one = |argument: &String| {
        let (expert, file) = match argument.split_once('=').filter(|_| !Path::new(argument).exists()) {
            Some((name, file)) => {
                let known = number(name).or_else(|| name.parse().ok());
                let expert = known.filter(|e| experts.is_empty() || *e < experts.len()).ok_or_else(|| {
                    let error = Error::input(format!("no expert is called `{name}`"));
                    if experts.is_empty() {
                        error
                    } else {
                        error.hint(format!("the experts are {}", experts.join(", ")))
                    }
                })?;
                (Some(expert), file)
            }
            None => (None, argument.as_str()),
        };
        let text = Text::load(&folder(Path::new(file)))?;
        let expert = expert.or_else(|| number(&text.name));
        Ok(RoutedText { name: text.name, expert, documents: text.documents, prompts: false })
    };
    arguments.iter().map(one).collect()
}
