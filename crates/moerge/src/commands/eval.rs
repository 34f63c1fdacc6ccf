//! `moerge eval`: runs the evaluations of `moerge_lib::evaluate` and prints or stores their tables.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use moerge_core::progress::Progress as _;
use moerge_infer::{model::Model, runner::Placement};
use moerge_lib::evaluate::{
    Choices, Extraction, KnownExperts, Mixing, ModelScore, NUMBER, Questions, Reference, Tests, Text, html,
};
use serde_json::json;

use super::{folder, placing::PlacingArgs, write_page};
use crate::{commands::command_line::wrong_usage, console, numbers::count, progress::Reporter, sizes};

mod card;
mod cells;
mod table;
mod tables;
mod tasks;

/// Compare models: perplexity, multiple choice, generated answers
///
/// Perplexity uses the sliding windows of transformers' documentation. Multiple choice is scored like
/// lm-evaluation-harness: acc picks the most likely choice, acc_norm the most likely per character. Generated answers
/// are greedy; a regular expression extracts the answer, which must equal the correct one. Tasks and suites are those of
/// lm-evaluation-harness and of the leaderboards. Every number comes with its standard error.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("tests").required(true).multiple(true))]
#[command(after_long_help = "\
Examples:
  moerge eval base out --text valid/*.txt
  moerge eval examples/tiny/{base,code,math,story} out --text examples/tiny/valid/*.txt
  moerge eval base out --text valid/*.txt --card    # add the results to out/README.md
  moerge eval out out-q4_k_m.gguf --text valid/*.txt --kl
  moerge eval base out --text code.txt story.txt --mixed
  moerge eval base out --tasks arc_challenge,hellaswag --limit 200
  moerge eval out --suite nous
  moerge eval out --choices arc.jsonl --shots 5 --json | jq '.models[].choices[].acc'

A line of a --choices file (`answer` may also be a letter or the text of the choice):
  {\"question\": \"What do bees make?\", \"choices\": [\"honey\", \"milk\"], \"answer\": 0}
With `context` instead of `question`, the choice follows the text directly.

A line of a --questions file:
  {\"question\": \"What is 3 + 4?\", \"answer\": \"3 + 4 = 7\\n#### 7\"}")]
pub struct Args {
    /// Model folders, GGUF files, or `org/name` on the Hub, optionally with `+adapter`
    #[arg(value_name = "MODEL", required_unless_present = "list_tasks")]
    models: Vec<String>,
    /// Texts for perplexity: plain text, or JSON Lines with a `text` key
    #[arg(long, value_name = "FILE", num_args = 1.., group = "tests")]
    text: Vec<PathBuf>,
    /// Multiple-choice questions, as JSON Lines
    #[arg(long, value_name = "FILE", num_args = 1.., group = "tests")]
    choices: Vec<PathBuf>,
    /// Questions with generated answers, as JSON Lines
    #[arg(long, value_name = "FILE", num_args = 1.., group = "tests")]
    questions: Vec<PathBuf>,
    /// Extracts the answer from the generated text: the last match, or its first group
    #[arg(long, value_name = "REGEX", default_value = NUMBER, value_parser = extraction)]
    answer_regex: Extraction,
    /// Maximum number of tokens of a generated answer
    #[arg(long, value_name = "TOKENS", default_value_t = 256, value_parser = sizes::tokens)]
    answer_tokens: usize,
    #[command(flatten)]
    tasks: tasks::TaskArgs,
    /// Number of solved examples before each question: the first of its file, or those of the task [default: 0, or the
    /// task's]
    #[arg(long, value_name = "N", value_parser = sizes::whole::<usize>)]
    #[arg(allow_negative_numbers = true)]
    shots: Option<usize>,
    /// Window length in tokens [default: the model's context, at most 2048]
    #[arg(long, value_name = "TOKENS", value_parser = sizes::window)]
    context: Option<usize>,
    /// Tokens between window starts [default: half the context]
    #[arg(long, value_name = "TOKENS", value_parser = sizes::tokens)]
    stride: Option<usize>,
    /// Also compare every model's predictions of the next token with the first model's: Kullback-Leibler divergence, and
    /// how often both predict the same next token
    #[arg(long, requires = "text")]
    kl: bool,
    /// Also measure perplexity on documents that change their subject, made of a segment of each --text: of the models,
    /// and for an MoE also with every token sent to the right expert, and with the best single expert of each document
    #[arg(long, requires = "text")]
    mixed: bool,
    /// Maximum number of mixed documents
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = sizes::whole::<usize>, requires = "mixed")]
    mixed_documents: usize,
    /// Tokens per segment of a mixed document
    #[arg(long, value_name = "TOKENS", default_value_t = 85, value_parser = sizes::tokens, requires = "mixed")]
    segment: usize,
    #[command(flatten)]
    placing: PlacingArgs,
    /// Add the results to the model cards (README.md) of models that moerge made
    #[arg(long)]
    card: bool,
    /// Print all results as JSON, including every question
    #[arg(long)]
    pub json: bool,
    /// Print only the result
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the tests on every model and prints the results.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.tasks.compare && args.models.len() < 2 {
        wrong_usage("eval", "--compare compares models with the first, and there is only one");
    }
    if args.kl && args.models.len() < 2 {
        wrong_usage("eval", "--kl compares models with the first, and there is only one");
    }
    if let (Some(context), Some(stride)) = (args.context, args.stride)
        && stride > context
    {
        let message =
            format!("--stride {stride} is larger than --context {context}, so tokens in between would be skipped");
        wrong_usage("eval", &message);
    }
    if args.tasks.list_tasks {
        console::results().lines(tasks::list())?;
        return Ok(ExitCode::SUCCESS);
    }
    let reporter = Reporter::new(false, args.quiet || args.json, false);
    let asked = args.tasks.load(args.shots, &reporter)?;
    let tests = Tests {
        mixing: args.mixed.then_some(Mixing { documents: args.mixed_documents, segment: args.segment }),
        known_experts: (args.models.len() > 1).then(KnownExperts::default),
        texts: args.text.iter().map(|path| Text::load(&folder(path))).collect::<moerge_core::Result<_>>()?,
        choices: args.choices.iter().map(|path| Choices::load(&folder(path))).collect::<moerge_core::Result<_>>()?,
        questions: args
            .questions
            .iter()
            .map(|path| Questions::load(&folder(path)))
            .collect::<moerge_core::Result<_>>()?,
        extraction: Some(args.answer_regex.clone()),
        answer_tokens: args.answer_tokens,
        tasks: asked.questions,
        answers: args.tasks.answers.as_deref().map(folder),
        part: args.tasks.part,
        shots: args.shots.unwrap_or(0),
        context: args.context,
        stride: args.stride,
    };
    let models = args.placing.open(&args.models, &reporter)?;
    let cards = if args.card { card::cards(&models)? } else { Vec::new() };
    let scores = scores(args, &tests, &models, &reporter);
    reporter.close();
    let scores = scores?;
    if let (Some(part), Some(answers)) = (args.tasks.part, &args.tasks.answers) {
        reporter.note(&format!(
            "part {part} of the questions is answered in {}; when all are, run without --part",
            answers.display()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    for (score, file) in scores.iter().flat_map(|score| score.choices.iter().map(move |file| (score, file))) {
        if file.cut > 0 {
            let cut = count(file.cut, "question");
            reporter.warning(&format!(
                "{}: {cut} of {} lost their beginning to fit into the context",
                score.model, file.name
            ));
        }
    }
    for (score, task) in scores.iter().flat_map(|score| score.tasks.iter().map(move |task| (score, task))) {
        if task.cut > 0 {
            let cut = count(task.cut, "question");
            let (model, name) = (&score.model, &task.name);
            reporter.warning(&format!("{model}: {cut} of {name} lost their beginning to fit into the context"));
        }
    }
    let mut tables = tables::tables(&scores);
    if args.tasks.compare {
        tables.extend(tables::comparisons(&scores));
    }
    tables.extend(asked.suites.iter().map(|suite| tables::suite(suite, &scores)));
    for card in cards {
        card.write(&scores, &tables)?;
        reporter.note(&format!("results added to {}", card.path().display()));
    }
    let compared = if args.tasks.compare { tables::compared(&scores) } else { Vec::new() };
    if let Some(path) = &args.tasks.html {
        write_page(path, &html::page(&scores, &tables::names(&scores), &asked.suites, &compared))?;
        reporter.note(&format!("results in {}", path.display()));
    }
    let mut out = console::results();
    if args.json {
        let mut results = json!({ "shots": tests.shots, "models": scores });
        if !asked.suites.is_empty() {
            let suites = scores.iter().map(|score| asked.suites.iter().map(|suite| suite.score(&score.tasks)));
            results["suites"] = json!(suites.map(Iterator::collect::<Vec<_>>).collect::<Vec<_>>());
        }
        if args.tasks.compare {
            results["compared"] = json!(compared);
        }
        writeln!(out, "{results:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    out.lines(table::lines(&tables))?;
    Ok(ExitCode::SUCCESS)
}

/// The scores of all models.
fn scores(args: &Args, tests: &Tests, models: &[Model], reporter: &Reporter) -> moerge_core::Result<Vec<ModelScore>> {
    // With a reference two models are in memory.
    let placement = |model| {
        let placement = args.placing.placement(model);
        Placement { memory: if args.kl { placement.memory / 2 } else { placement.memory }, ..placement }
    };
    let Some((first, others)) = models.split_first().filter(|_| args.kl) else {
        return models.iter().map(|model| tests.run(model, placement(model), None, reporter)).collect();
    };
    // Before the work rather than after half of it.
    others.iter().try_for_each(|model| tests.check_same_tokens(model, first))?;
    let mut scores = vec![tests.run(first, placement(first), None, reporter)?];
    let reference = Reference::new(first, placement(first), reporter)?;
    for model in others {
        scores.push(tests.run(model, placement(model), Some(&reference), reporter)?);
    }
    Ok(scores)
}

fn extraction(text: &str) -> Result<Extraction, String> {
    Extraction::new(text).map_err(|error| error.parts().message.clone())
}
