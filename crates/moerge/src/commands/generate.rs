//! `moerge generate`: continues one prompt and streams the answer to stdout.

use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    ops::ControlFlow,
    process::ExitCode,
    time::Instant,
};

use anyhow::Context as _;
use moerge_infer::generate::{Generator, Limits, Sampler, answer};

use super::running::{ModelArgs, SamplingArgs};
use crate::{console, interrupt, numbers::count, progress::Reporter, terminal::harmless};

/// Continue a prompt
///
/// Prints only the continuation, without the prompt and without a chat template. Use `moerge chat` for conversations.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge generate out -p 'def fibonacci(n):'
  moerge generate out -p 'Once upon a time' --temperature 0 -n 100
  moerge generate out < letter.txt")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text to continue [default: read from stdin]
    #[arg(short, long, value_name = "TEXT")]
    prompt: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Print nothing but the text
    #[arg(short, long)]
    quiet: bool,
}

/// Prints the continuation as it is generated.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(false, args.quiet, false);
    let loaded = args.model.load(&reporter)?;
    let prompt = match &args.prompt {
        Some(prompt) => prompt.clone(),
        None => read_stdin()?,
    };
    let tokenizer = &loaded.model.tokenizer;
    let tokens = tokenizer.encode(&prompt)?;
    let mut generator = Generator::new(&loaded.resident, loaded.context);
    let mut sampler = Sampler::new(args.sampling.sampling(&loaded.generation.sampling), 0);
    let limits = Limits { stop: loaded.generation.stop.clone(), tokens: args.sampling.max_tokens };
    let mut out = console::results();
    let mut failure = None;
    let (started, mut first, mut written) = (Instant::now(), None, 0usize);
    answer(&mut generator, tokenizer, &tokens, &mut sampler, &limits, &reporter, &mut |piece| {
        first.get_or_insert_with(|| started.elapsed());
        written += 1;
        match write!(out, "{}", harmless(piece.text)).and_then(|()| out.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    writeln!(out)?;
    if let Some(first) = first.filter(|_| !args.quiet) {
        let rest = started.elapsed().saturating_sub(first).as_secs_f64();
        let rate = |n: usize, seconds: f64| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
        console::status(&format!(
            "{} read at {:.0} tokens/s, {written} written at {:.1} tokens/s",
            count(tokens.len(), "token"),
            rate(tokens.len(), first.as_secs_f64()),
            rate(written.saturating_sub(1), rest)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The prompt from stdin. Ctrl-C ends the process while it is read.
fn read_stdin() -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        console::status("reading the prompt from the terminal: end it with Ctrl-D, cancel with Ctrl-C");
    }
    let mut text = String::new();
    interrupt::while_waiting(|| std::io::stdin().read_to_string(&mut text)).context("cannot read the prompt")?;
    Ok(text)
}
