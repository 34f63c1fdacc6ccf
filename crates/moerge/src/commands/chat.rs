use std::{io::Write as _, ops::ControlFlow, process::ExitCode};

use anstyle::{AnsiColor, Style};
use moerge_checkpoint::LocalStorage;
use moerge_core::ErrorKind;
use moerge_infer::generate::{ChatTemplate, End, Generator, Limits, Message, Sampler, answer};

use super::running::{Loaded, ModelArgs, SamplingArgs};
use crate::{
    diagnostics, interrupt,
    progress::Reporter,
    terminal::{DIM, HINT, harmless, styled},
};

mod input;

/// Talk to a model
///
/// Uses the model's own chat template. In the conversation, /experts colours each word by the expert that had most to
/// say in it, /reset begins anew, /exit or Ctrl-D leaves; Ctrl-C ends an answer. Lines can be edited as in a shell, and
/// the arrow keys bring back those before.
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
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Colour each word by its main expert from the beginning
    #[arg(long)]
    experts: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Colours of experts, in the order of their numbers; more experts begin anew.
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

/// Holds the conversation until the user leaves.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(false, false, false);
    let loaded = args.model.load(&reporter)?;
    let template = ChatTemplate::open(&LocalStorage, &loaded.model.dir)?;
    if template.is_none() {
        reporter.warning("the model has no chat template: it continues your text as it stands");
    }
    let mut input = input::Input::open()?;
    let interactive = input.is_interactive();
    let mut chat = Chat { args, loaded: &loaded, template, messages: Vec::new(), experts: args.experts, interactive };
    chat.begin();
    let mut generator = Generator::new(&loaded.resident, loaded.context);
    let mut sampler = Sampler::new(args.sampling.sampling(&loaded.generation.sampling), 0);
    if interactive {
        anstream::eprintln!("{}", styled(DIM, "/experts colours words by expert, /reset begins anew, Ctrl-D leaves"));
    }
    while let Some(line) = input.next()? {
        interrupt::forget();
        match line.trim() {
            "" => {}
            "/exit" | "/quit" => break,
            "/reset" => chat.begin(),
            "/experts" => chat.toggle_experts(),
            "/help" => anstream::eprintln!("/experts  /reset  /exit"),
            command if command.starts_with('/') && !command.contains(' ') => {
                anstream::eprintln!("{} /experts, /reset and /exit are known here", styled(HINT, "hint:"));
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
    /// Whether someone is there to read an error and go on.
    interactive: bool,
}

impl Chat<'_> {
    fn begin(&mut self) {
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

    /// The experts in their colours.
    fn legend(&self) {
        let names = self.loaded.experts.iter().enumerate();
        let names: Vec<String> = names.map(|(e, name)| styled(colour(e), &harmless(&format!("{e} {name}")))).collect();
        if !names.is_empty() {
            anstream::eprintln!("{}", names.join("  "));
        }
    }

    /// Answers `text`. What goes wrong is told to whoever types, and the conversation goes on.
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
            Some(template) => template.render(&self.messages).and_then(|text| tokenizer.encode_rendered(&text)),
            None => tokenizer.encode(&self.messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n")),
        };
        let mut out = anstream::stdout();
        let (mut said, mut failure) = (String::new(), None);
        let ended = prompt.and_then(|prompt| {
            answer(generator, tokenizer, &prompt, sampler, &limits, reporter, &mut |piece| {
                said.push_str(piece.text);
                let text = harmless(piece.text);
                let main = self.experts.then(|| piece.trace.by_expert(&self.loaded.slots).main_expert()).flatten();
                let shown = match main {
                    Some(expert) => styled(colour(expert), &text),
                    None => text,
                };
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
        writeln!(out)?;
        match ended {
            Ok(End::Length) => anstream::eprintln!("{}", styled(DIM, "(cut: --max-tokens makes answers longer)")),
            Ok(End::Context) => anstream::eprintln!("{}", styled(DIM, "(the context is full: /reset begins anew)")),
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
