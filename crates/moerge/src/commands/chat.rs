//! `moerge chat`: a conversation in the terminal, with the experts of each word in colour.

use std::{io::Write as _, ops::ControlFlow, process::ExitCode};

use anstyle::{AnsiColor, Style};
use moerge_core::ErrorKind;
use moerge_infer::generate::{ChatTemplate, Conversation, End, Generator, Limits, Message, Sampler, answer};

use super::running::{Loaded, ModelArgs, SamplingArgs};
use crate::{
    console, diagnostics, interrupt,
    progress::Reporter,
    terminal::{DIM, HINT, harmless, one_line, styled},
    wrap::WordWrap,
};

mod input;

/// Chat with a model
///
/// Uses the model's own chat template. Commands: /experts colours each word by the expert with the largest share in it,
/// /reset starts over, /exit or Ctrl-D quits. Ctrl-C stops an answer. Lines can be edited as in a shell, with a
/// history.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  moerge chat out
  moerge chat out --experts --temperature 0
  moerge chat out --system 'You answer in one sentence.'
  echo 'What is a monad?' | moerge chat out")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// System message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Colour each word by its main expert, as /experts does
    #[arg(long)]
    experts: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Colours of experts by number; they repeat after the last.
const COLOURS: [AnsiColor; 8] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Green,
    AnsiColor::Blue,
    AnsiColor::Red,
    AnsiColor::BrightBlack,
    AnsiColor::BrightCyan,
];

/// Runs the conversation until the user leaves.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(false, false, false);
    let loaded = args.model.load(&reporter)?;
    let template = ChatTemplate::open(loaded.model.storage.as_ref(), &loaded.model.dir)?;
    if template.is_none() {
        reporter.warning("the model has no chat template, so it simply continues your text");
    }
    let mut input = input::Input::open()?;
    let interactive = input.is_interactive();
    let mut chat = Chat { args, loaded: &loaded, template, messages: Vec::new(), experts: args.experts, interactive };
    chat.reset();
    let mut generator = Generator::new(&loaded.resident, loaded.context);
    let mut sampler = Sampler::new(args.sampling.sampling(&loaded.generation.sampling), 0);
    if interactive {
        console::status(&styled(DIM, "/experts colours words by expert, /reset starts over, Ctrl-D quits"));
    }
    while let Some(line) = input.next()? {
        interrupt::forget();
        match line.trim() {
            "" => {}
            "/exit" | "/quit" => break,
            "/reset" => chat.reset(),
            "/experts" => chat.toggle_experts(),
            "/help" => console::status("/experts  /reset  /exit"),
            command if command.starts_with('/') && !command.contains(' ') => {
                console::status(&format!("{} the commands are /experts, /reset and /exit", styled(HINT, "hint:")));
            }
            text => chat.answer(text, &mut generator, &mut sampler, &reporter)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A conversation.
struct Chat<'a> {
    args: &'a Args,
    loaded: &'a Loaded,
    template: Option<ChatTemplate>,
    messages: Vec<Message>,
    /// Whether words are coloured by expert.
    experts: bool,
    /// Whether a person types, who can continue after an error.
    interactive: bool,
}

impl Chat<'_> {
    fn reset(&mut self) {
        let system = self.args.system.iter().map(|text| message("system", text));
        self.messages = system.collect();
        if self.experts {
            self.legend();
        }
    }

    fn toggle_experts(&mut self) {
        self.experts = !self.experts;
        if self.experts {
            self.legend();
        }
    }

    /// Prints the experts in their colours.
    fn legend(&self) {
        let names = self.loaded.experts.iter().enumerate();
        let names: Vec<String> = names.map(|(e, name)| styled(colour(e), &one_line(&format!("{e} {name}")))).collect();
        if !names.is_empty() {
            console::status(&names.join("  "));
        }
    }

    /// Answers `text`. A person who types sees an error, and the conversation continues.
    fn answer(
        &mut self,
        text: &str,
        generator: &mut Generator<'_>,
        sampler: &mut Sampler,
        reporter: &Reporter,
    ) -> anyhow::Result<()> {
        self.messages.push(message("user", text));
        let tokenizer = &self.loaded.model.tokenizer;
        let limits = Limits { stop: self.loaded.generation.stop.clone(), tokens: self.args.sampling.max_tokens };
        let prompt = match &self.template {
            Some(template) => template
                .render(&Conversation::new(&self.messages), self.loaded.context, reporter)
                .and_then(|text| tokenizer.encode_rendered(&text)),
            None => tokenizer.encode(&self.messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n")),
        };
        let mut out = console::results();
        let mut wrap = WordWrap::new(out.width);
        let (mut said, mut failure) = (String::new(), None);
        let ended = prompt.and_then(|prompt| {
            answer(generator, tokenizer, &prompt, sampler, &limits, reporter, &mut |piece| {
                said.push_str(piece.text);
                let text = harmless(piece.text);
                let main = self.experts.then(|| piece.trace.by_expert(&self.loaded.slots).main_expert()).flatten();
                let shown = wrap.push(&text, main.map(colour));
                match write!(out, "{shown}").and_then(|()| out.flush()) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failure = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })
        });
        if let Some(error) = failure {
            return Err(error.into());
        }
        writeln!(out, "{}", wrap.finish())?;
        match ended {
            Ok(End::Length) => {
                console::status(&styled(DIM, "(cut off by --max-tokens; a larger value allows longer answers)"));
            }
            Ok(End::Context) => console::status(&styled(DIM, "(the context is full; /reset starts over)")),
            Ok(End::Stop | End::Cancelled) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => interrupt::forget(),
            Err(error) if !self.interactive => return Err(error.into()),
            Err(error) => {
                self.messages.pop();
                diagnostics::error(&error);
                return Ok(());
            }
        }
        self.messages.push(message("assistant", &said));
        Ok(())
    }
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}

fn colour(expert: usize) -> Style {
    COLOURS[expert % COLOURS.len()].on_default()
}
