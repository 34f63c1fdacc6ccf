use std::{io::Write as _, path::PathBuf, process::ExitCode};

use moerge_core::progress::Progress as _;
use moerge_lib::evaluate::{Choices, Extraction, ModelScore, NUMBER, Questions, Tests, Text};
use serde_json::json;

use super::{folder, placing::PlacingArgs};
use crate::{args::wrong_usage, numbers::count, progress::Reporter, sizes};

mod card;
mod tables;

/// Measure models side by side: perplexity over texts, questions with choices
///
/// Perplexity is that of transformers' sliding-window recipe; a text longer than the context is cut into windows.
/// Questions are scored as the lm-evaluation-harness does: acc takes the likeliest choice, acc_norm the likeliest
/// per character. Answers that the model writes, always with the likeliest token, are compared with the right one
/// after a regular expression. Behind each number stands its standard error.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("tests").required(true).multiple(true))]
#[command(after_long_help = "\
Examples:
  moerge eval base out --text valid/*.txt
  moerge eval examples/tiny/{base,code,math,story} out --text examples/tiny/valid/*.txt
  moerge eval base out --text valid/*.txt --card    # and write it into out/README.md
  moerge eval out --choices arc.jsonl --shots 5 --json | jq '.models[].choices[].acc'

A line of a --choices file:
  {\"question\": \"What do bees make?\", \"choices\": [\"honey\", \"milk\"], \"answer\": 0}
A `context` instead of the question stands before the choice as it is; `answer` may be a letter or the text.
A line of a --questions file:
  {\"question\": \"What is 3 + 4?\", \"answer\": \"3 + 4 = 7\\n#### 7\"}")]
pub struct Args {
    /// Model folders, `org/name` in the Hugging Face cache, or either with `+adapter`
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
    /// Texts: plain, or JSON Lines with `text` where the name ends in .jsonl
    #[arg(long, value_name = "FILE", num_args = 1.., group = "tests")]
    text: Vec<PathBuf>,
    /// Questions with choices, as JSON Lines
    #[arg(long, value_name = "FILE", num_args = 1.., group = "tests")]
    choices: Vec<PathBuf>,
    /// Questions whose answer the model writes, as JSON Lines
    #[arg(long, value_name = "FILE", num_args = 1.., group = "tests")]
    questions: Vec<PathBuf>,
    /// What finds the answer in what it writes: the last match, or its first group
    #[arg(long, value_name = "REGEX", default_value = NUMBER, value_parser = extraction)]
    answer_regex: Extraction,
    /// Most tokens of a written answer
    #[arg(long, value_name = "TOKENS", default_value_t = 256, value_parser = sizes::tokens)]
    answer_tokens: usize,
    /// Solved examples before each question: the first others of its file
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = sizes::whole::<usize>)]
    #[arg(allow_negative_numbers = true)]
    shots: usize,
    /// Tokens of a window over texts [default: the model's context, at most 2048]
    #[arg(long, value_name = "TOKENS", value_parser = sizes::window)]
    context: Option<usize>,
    /// Tokens from one window to the next [default: half the context]
    #[arg(long, value_name = "TOKENS", value_parser = sizes::tokens)]
    stride: Option<usize>,
    #[command(flatten)]
    placing: PlacingArgs,
    /// Write the results into the model cards (README.md) of the models among these that moerge made
    #[arg(long)]
    card: bool,
    /// Print everything as JSON, question by question
    #[arg(long)]
    json: bool,
    /// Only print the result
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the tests on every model and prints what came of it.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let (Some(context), Some(stride)) = (args.context, args.stride)
        && stride > context
    {
        let message =
            format!("--stride {stride} is more than --context {context}: tokens in between would be passed over");
        wrong_usage("eval", &message);
    }
    let tests = Tests {
        texts: args.text.iter().map(|path| Text::load(&folder(path))).collect::<moerge_core::Result<_>>()?,
        choices: args.choices.iter().map(|path| Choices::load(&folder(path))).collect::<moerge_core::Result<_>>()?,
        questions: args
            .questions
            .iter()
            .map(|path| Questions::load(&folder(path)))
            .collect::<moerge_core::Result<_>>()?,
        extraction: Some(args.answer_regex.clone()),
        answer_tokens: args.answer_tokens,
        shots: args.shots,
        context: args.context,
        stride: args.stride,
    };
    let reporter = Reporter::new(false, args.quiet || args.json, false);
    let models = args.placing.open(&args.models, &reporter)?;
    let cards = if args.card { card::cards(&models)? } else { Vec::new() };
    let scores: moerge_core::Result<Vec<ModelScore>> =
        models.iter().map(|model| tests.run(model, args.placing.placement(model), &reporter)).collect();
    reporter.close();
    let scores = scores?;
    for (score, file) in scores.iter().flat_map(|score| score.choices.iter().map(move |file| (score, file))) {
        if file.cut > 0 {
            let cut = count(file.cut, "question");
            reporter.warning(&format!("{}: {cut} of {} lost the beginning to fit the context", score.model, file.name));
        }
    }
    let tables = tables::tables(&scores);
    for card in cards {
        card.write(&scores, &tables)?;
        reporter.note(&format!("the results are in {}", card.path().display()));
    }
    let mut out = anstream::stdout();
    if args.json {
        writeln!(out, "{:#}", json!({ "shots": args.shots, "models": scores }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in tables::lines(&tables) {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn extraction(text: &str) -> Result<Extraction, String> {
    Extraction::new(text).map_err(|error| error.parts().message.clone())
}
